"""Sets up Python's torch for one test: the scripts of docs/training.md, which trace and compile a PyTorch module, are run as
they stand.

Owns the one trick: PyPI's torch for Linux is built with CUDA and refuses to load without 2 GB of its libraries, of which
tracing and compiling for a CPU use nothing. So the libraries of .tenon/libtorch are used, torch's Python comes from the
same wheel, and what only CUDA has is stood in for by a library of names, which must never be called. For tests, never for
use: whoever brings a model has a PyTorch of their own.
"""

import argparse
import os
import pathlib
import subprocess
import sys

sys.dont_write_bytecode = True
from libtorch import TORCH  # noqa: E402
from wheels import (  # noqa: E402
    Refusal, announce, check_machine, discard, download, mark, marked, only_one, replacing, run, say, unpack,
)

PYTHON = (3, 11)  # what the wheel is for
# What `import torch` wants. NumPy is not among it: without it torch only warns.
PACKAGES = ("filelock==3.20.0", "fsspec==2025.10.0", "jinja2==3.1.6", "networkx==3.5", "sympy==1.14.0",
            "typing_extensions==4.15.0")
LIB = "site/torch/lib"
# By which an older installation is known: raise the number when other parts are kept.
WHAT = {"torch": TORCH.file, "parts": 2}
SHARED = ("libtorch_cpu.so", "libc10.so", "libgomp.so.1")
OWN = ("libtorch_python.so", "libshm.so", "libtorch.so", "libtorch_global_deps.so", "libc10_cuda.so")
PARTS = ("torch", "torchgen", "functorch")
COMPILER = "torch/_inductor/"  # has templates and C++ beside its Python
# Names that a library finds elsewhere than in torch: in Python and in the compiler's own.
FOREIGN = ("Py", "_Py", "__", "_ITM")


def place_of(name):
    """Where a file of torch's wheel goes; None leaves it out."""
    parts = name.split("/")
    kept = parts[0] in PARTS and (name.endswith((".py", ".json")) or parts[-1].startswith("_C.") or parts[1] == "bin"
                                  or name.startswith(COMPILER)
                                  or (parts[:2] == ["torch", "lib"] and parts[-1] in OWN))
    return f"site/{name}" if kept and "test" not in parts else None


def symbols(library, which):
    """Names that a library defines, or looks for elsewhere."""
    found = subprocess.run(["nm", "--dynamic", which, str(library)], capture_output=True, text=True, check=True)
    return {line.split()[-1].split("@")[0] for line in found.stdout.splitlines()}


def linked(library):
    """The system's libraries that one is linked with."""
    found = subprocess.run(["ldd", str(library)], capture_output=True, text=True, check=True)
    lines = (line.split("=>")[1].split()[0] for line in found.stdout.splitlines() if "=> /" in line)
    return [line for line in lines if "/torch/" not in line]


def stand_in(folder, name, source, *options):
    subprocess.run(["cc", "-shared", "-x", "assembler", "-", "-o", str(folder / LIB / name), f"-Wl,-soname,{name}",
                    *options], input=source, text=True, check=True)


def stand_ins(folder):
    """Libraries of the names that torch's Python half looks for in CUDA's."""
    lib = folder / LIB
    there = set()
    for library in [*(lib / name for name in (*SHARED, "libshm.so", "libc10_cuda.so")), *linked(lib / SHARED[0])]:
        there |= symbols(library, "--defined-only")
    missing = sorted(name for name in symbols(lib / OWN[0], "--undefined-only") - there
                     if not name.startswith(FOREIGN))
    functions = [name for name in missing if not name.startswith("_ZT")]
    text = '.section .note.GNU-stack,"",@progbits\n.text\n'
    # All functions are one, which answers the address of some zeros: a few are asked while libraries load.
    text += "".join(f".globl {name}\n.type {name},@function\n{name}:\n" for name in functions)
    text += "lea zeros(%rip),%rax\nret\n.data\n.balign 64\nzeros: .zero 4096\n"
    for name in missing:
        if name.startswith("_ZTI"):  # a type's name must be one
            text += (f".balign 16\n.globl {name}\n{name}: .quad _ZTVN10__cxxabiv117__class_type_infoE+16, {name}_name\n"
                     f'{name}_name: .asciz "{name[4:]}"\n')
        elif name.startswith("_ZTV"):
            text += f".balign 16\n.globl {name}\n{name}: .zero 512\n"
    stand_in(folder, "libtorch_cuda.so", text, "-lstdc++")
    empty = '.section .note.GNU-stack,"",@progbits\n'
    versions = folder / "cudnn.map"
    versions.write_text("libcudnn.so.9 { global: *; };\n", encoding="utf-8")
    property_of = ".text\n.globl cudnnGetProperty\ncudnnGetProperty: ret\n"
    stand_in(folder, "libcudnn.so.9", empty + property_of, f"-Wl,--version-script={versions}")
    stand_in(folder, "libcufile.so.0", empty)


def install(target, libtorch, downloads, keep_downloads):
    wheel = TORCH._replace(unpacked=125_000_000)
    downloads.mkdir(parents=True, exist_ok=True)
    for missing in announce("PyTorch for a test", (wheel,), downloads, target):
        download(missing, downloads)
    with replacing(target) as folder:
        unpack(wheel, downloads, folder, place_of)
        (folder / "site/torch/bin/torch_shm_manager").chmod(0o755)
        for name in SHARED:
            (folder / LIB / name).symlink_to(libtorch / "site/torch/lib" / name)
        (folder / "site/torch/include").symlink_to(libtorch / "site/torch/include")
        (folder / "site/nvidia").symlink_to(libtorch / "site/nvidia")
        stand_ins(folder)
        command = [sys.executable, "-m", "pip", "install", "--disable-pip-version-check", "--quiet", "--no-deps",
                   "--target", str(folder / "site"), *PACKAGES]
        if subprocess.run(command, check=False).returncode != 0:
            raise Refusal("pip could not install what torch imports; its own words are above")
        tried = subprocess.run([sys.executable, "-c", "import torch; print(float(torch.ones(3).sum()))"],
                               env={**os.environ, "PYTHONPATH": str(folder / "site")}, capture_output=True, text=True,
                               check=False)
        if tried.stdout.strip() != "3.0":
            raise Refusal(f"torch does not load: {tried.stderr.strip()[-300:]}")
        mark(folder, WHAT, {"site/torch/__init__.py": (folder / "site/torch/__init__.py").stat().st_size})
    if not keep_downloads:
        discard((wheel,), downloads)
    say(f"PyTorch for a test is ready in {target}")


def main():
    parser = argparse.ArgumentParser(description="Set up Python's torch for the test of docs/training.md.")
    home = pathlib.Path(os.path.abspath(__file__)).parent.parent / ".tenon"
    parser.add_argument("--to", type=pathlib.Path, default=home / "pytorch", help="where it goes (%(default)s)")
    parser.add_argument("--downloads", type=pathlib.Path, default=home / "downloads",
                        help="where wheels are looked for and put (%(default)s)")
    parser.add_argument("--keep-downloads", action="store_true", help="leave the wheel there")
    arguments = parser.parse_args()
    check_machine()
    if sys.version_info[:2] != PYTHON:
        raise Refusal(f"torch's wheel is for Python {PYTHON[0]}.{PYTHON[1]}: run this with python3.11")
    libtorch = home / "libtorch"
    if not (libtorch / "site/torch/lib" / SHARED[0]).exists():
        raise Refusal("libtorch is not set up: run `make libtorch`")
    target = arguments.to.absolute()
    with only_one(target.parent):
        if marked(target) == WHAT:
            say("PyTorch for a test is already there")
            return
        install(target, libtorch, arguments.downloads.absolute(), arguments.keep_downloads)


if __name__ == "__main__":
    run(main)
