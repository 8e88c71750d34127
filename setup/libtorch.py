"""Sets up libtorch 2.11.0 from the wheels of PyPI: the libraries and headers that native code needs, no Python.

Owns which wheels there are, which parts of them are kept, and the layout below. Knows nothing of the host; how a wheel
is downloaded and unpacked is in wheels.py. Run it again after adding an NVIDIA driver to add the CUDA libraries.

  <to>/site/{torch,nvidia}  real files, side by side as in site-packages: the libraries find each other by that
  <to>/link/                what to link against: only the CPU's libraries, so that one binary serves both kinds of
                            machine and loads CUDA's when it starts; never used at run time
"""

import argparse
import ctypes.util
import os
import pathlib
import shutil
import sys

sys.dont_write_bytecode = True
from wheels import (  # noqa: E402
    Refusal, Wheel, announce, check_machine, discard, download, mark, marked, only_one, replacing, run, say, unpack,
)

VERSION = "2.11.0"
TORCH = Wheel(
    "torch-2.11.0-cp311-cp311-manylinux_2_28_x86_64.whl", 530_604_548, 492_076_934,
    "7aa2f9bbc6d4595ba72138026b2074be1233186150e9292865e04b7a63b8c67a",
)
CPU = (
    TORCH,
    Wheel("nvidia_cuda_runtime-13.0.96-py3-none-manylinux2014_x86_64.manylinux_2_17_x86_64.whl",
          2_243_632, 704_288,
          "7f82250d7782aa23b6cfe765ecc7db554bd3c2870c43f3d1821f1d18aebf0548"),
    Wheel("nvidia_cuda_cupti-13.0.85-py3-none-manylinux_2_25_x86_64.whl",
          10_715_597, 43_948_952,
          "4eb01c08e859bf924d222250d2e8f8b8ff6d3db4721288cf35d14252a4d933c8"),
)
CUDA = (
    TORCH._replace(unpacked=1_006_412_195),  # with the libraries below in GPU_ONLY
    *CPU[1:],
    Wheel("nvidia_cublas-13.1.0.3-py3-none-manylinux_2_27_x86_64.whl",
          423_133_236, 596_511_080,
          "ee8722c1f0145ab246bccb9e452153b5e0515fd094c3678df50b2a0888b8b171"),
    Wheel("nvidia_cudnn_cu13-9.19.0.56-py3-none-manylinux_2_27_x86_64.whl",
          366_066_321, 493_410_224,
          "d20e1734305e9d68889a96e3f35094d733ff1f83932ebe462753973e53a572bf"),
    Wheel("nvidia_cufft-12.0.0.61-py3-none-manylinux2014_x86_64.manylinux_2_17_x86_64.whl",
          214_085_489, 287_534_056,
          "6c44f692dce8fd5ffd3e3df134b6cdb9c2f72d99cf40b62c32dde45eea9ddad3"),
    Wheel("nvidia_cusolver-12.0.4.66-py3-none-manylinux_2_27_x86_64.whl",
          200_941_980, 245_109_712,
          "0a759da5dea5c0ea10fd307de75cdeb59e7ea4fcb8add0924859b944babf1112"),
    Wheel("nvidia_nccl_cu13-2.28.9-py3-none-manylinux_2_18_x86_64.whl",
          196_493_177, 217_995_896,
          "e4553a30f34195f3fa1da02a6da3d6337d28f2003943aa0a3d247bbc25fefc42"),
    Wheel("nvidia_cusparselt_cu13-0.8.0-py3-none-manylinux2014_x86_64.whl",
          169_884_119, 233_613_145,
          "25e30a8a7323935d4ad0340b95a0b69926eee755767e8e0b1cf8dd85b197d3fd"),
    Wheel("nvidia_cusparse-12.6.3.3-py3-none-manylinux2014_x86_64.manylinux_2_17_x86_64.whl",
          145_942_937, 162_565_256,
          "2b3c89c88d01ee0e477cb7f82ef60a11a4bcd57b6b87c33f789350b59759360b"),
    Wheel("nvidia_cuda_nvrtc-13.0.88-py3-none-manylinux2010_x86_64.manylinux_2_12_x86_64.whl",
          90_215_200, 227_912_592,
          "ad9b6d2ead2435f11cbb6868809d2adeeee302e9bb94bcf0539c7a40d80e8575"),
    Wheel("nvidia_nvshmem_cu13-3.4.5-py3-none-manylinux2014_x86_64.manylinux_2_17_x86_64.whl",
          60_412_546, 45_753_096,
          "290f0a2ee94c9f3687a02502f3b9299a9f9fe826e6d0287ee18482e78d495b80"),
    Wheel("nvidia_curand-10.4.0.35-py3-none-manylinux_2_27_x86_64.whl",
          59_544_258, 132_698_328,
          "1aee33a5da6e1db083fe2b90082def8915f30f3248d5896bcec36a579d941bfc"),
    Wheel("nvidia_nvjitlink-13.0.88-py3-none-manylinux2010_x86_64.manylinux_2_12_x86_64.whl",
          40_713_933, 98_806_736,
          "13a74f429e23b921c1109976abefacc69835f2f433ebd323d3946e11d804e47b"),
    Wheel("nvidia_cufile-1.15.1.6-py3-none-manylinux2014_x86_64.manylinux_2_17_x86_64.whl",
          1_223_672, 3_214_120,
          "08a3ecefae5a01c7f5117351c64f17c7c62efa5fffdbe24fc7d298da19cd0b44"),
)
# What torch's wheel holds for a GPU, useless without the wheels that only CUDA has.
GPU_ONLY = ("libtorch_cuda", "libtorch_nvshmem", "libc10_cuda", "libcaffe2_nvrtc")
PYTHON_ONLY = ("libtorch_python", "libshm")


def has_nvidia_driver():
    return (pathlib.Path("/proc/driver/nvidia").exists() or shutil.which("nvidia-smi") is not None
            or ctypes.util.find_library("cuda") is not None)


def place_in(chosen):
    """The part of the wheels that is kept for a set, as a function from a name in the wheel to its place."""
    skipped = PYTHON_ONLY if chosen == "cuda" else (*PYTHON_ONLY, *GPU_ONLY)

    def place_of(name):
        parts = name.split("/")
        library = ".so" in parts[-1] and not parts[-1].startswith(skipped)
        kept = (name == "torch/version.py" or parts[:2] == ["torch", "include"]
                or (parts[:2] == ["torch", "lib"] and len(parts) == 3 and library)
                or (parts[0] == "nvidia" and "lib" in parts and library))
        return f"site/{name}" if kept else None

    return place_of


def make_link_folder(folder):
    """torch-sys always asks for -ltorch; given this text in its place the linker takes the CPU's library alone."""
    (folder / "link/lib").mkdir(parents=True)
    (folder / "link/include").symlink_to("../site/torch/include")
    for name in ("libtorch_cpu.so", "libc10.so"):
        (folder / "link/lib" / name).symlink_to(f"../../site/torch/lib/{name}")
    (folder / "link/lib/libtorch.so").write_text("INPUT(libtorch_cpu.so)\n", encoding="utf-8")
    (folder / "link/build-version").write_text(f"{VERSION}\n", encoding="utf-8")


def check_content(folder):
    for name in ("site/torch/lib/libtorch_cpu.so", "site/torch/lib/libc10.so", "site/torch/include/torch/script.h",
                 "link/lib/libtorch_cpu.so", "link/include/torch/script.h"):
        if not (folder / name).exists():
            raise Refusal(f"the wheels did not bring {name}: please report this")
    text = (folder / "site/torch/version.py").read_text(encoding="utf-8")
    if f"'{VERSION}" not in text:
        raise Refusal(f"torch/version.py does not say {VERSION}: please report this")


def install(target, downloads, chosen, keep_downloads):
    wheels = CPU if chosen == "cpu" else CUDA
    label = "for the CPU" if chosen == "cpu" else "for CPU and CUDA (NVIDIA driver found or --cuda given)"
    downloads.mkdir(parents=True, exist_ok=True)
    for wheel in announce(f"libtorch {VERSION} {label}", wheels, downloads, target):
        download(wheel, downloads)
    with replacing(target) as folder:
        files = {}
        for wheel in wheels:
            files.update(unpack(wheel, downloads, folder, place_in(chosen)))
        make_link_folder(folder)
        check_content(folder)
        # Headers are many and never change by themselves; the libraries are what must be whole.
        mark(folder, {"set": chosen, "version": VERSION},
             {place: size for place, size in files.items() if not place.startswith("site/torch/include/")})
    if not keep_downloads:
        discard(wheels, downloads)
    say(f"libtorch {VERSION} ({chosen}) is ready in {target}")


def main():
    parser = argparse.ArgumentParser(description=f"Set up libtorch {VERSION} from PyPI's wheels.")
    kind = parser.add_mutually_exclusive_group()
    kind.add_argument("--cpu", action="store_true", help="without CUDA, whatever this machine has")
    kind.add_argument("--cuda", action="store_true", help="with CUDA, even if no NVIDIA driver is found")
    home = pathlib.Path(os.path.abspath(__file__)).parent.parent / ".tenon"
    parser.add_argument("--to", type=pathlib.Path, default=home / "libtorch", help="where it goes (%(default)s)")
    parser.add_argument("--downloads", type=pathlib.Path, default=home / "downloads",
                        help="where wheels go, or are already (%(default)s)")
    parser.add_argument("--keep-downloads", action="store_true", help="keep the wheels after unpacking")
    arguments = parser.parse_args()

    check_machine()
    chosen = "cuda" if arguments.cuda or (not arguments.cpu and has_nvidia_driver()) else "cpu"
    target = arguments.to.absolute()
    with only_one(target.parent):
        found = marked(target)
        # The CUDA set holds the CPU's, so it is never replaced by the smaller one.
        if found and found["version"] == VERSION and found["set"] in (chosen, "cuda"):
            say(f"libtorch {VERSION} ({found['set']}) is already there")
            return
        install(target, arguments.downloads.absolute(), chosen, arguments.keep_downloads)


if __name__ == "__main__":
    run(main)
