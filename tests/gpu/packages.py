"""Compiles a model of models.py into a package of AOTInductor, for the device that is there: a compiler and, for a GPU, triton
are needed beside torch.

    packages.py WORK MODEL DEVICE

Takes tens of seconds. Leaves one line in WORK/aoti-MODEL once it is over, whatever came of it; all else goes to standard
error."""

import os
import pathlib
import shutil
import sys
import time
import traceback

import torch

sys.path.insert(0, str(pathlib.Path(__file__).parent))
from models import HEADS, SIDE, WORDS, Encoder, Layer, residual  # noqa: E402


def find_cuda():
    """Where CUDA's headers are, and the library that stands for the driver's when it is linked to."""
    from torch.utils.cpp_extension import CUDA_HOME

    home = os.environ.get("CUDA_HOME") or CUDA_HOME
    if home:
        os.environ["CUDA_HOME"] = home
        known = os.environ.get("LIBRARY_PATH")
        os.environ["LIBRARY_PATH"] = ":".join([f"{home}/lib64/stubs"] + ([known] if known else []))


def attend(layer, q, k, v, bias):
    """What `scaled_dot_product_attention` does, spelled out: that one compares extents with 1, and a package which has to take
    one row could not be exported. What is compiled becomes fewer kernels again."""
    q, k, v = (part.flatten(0, 1) for part in (q, k, v))
    scores = torch.bmm(q, k.transpose(1, 2)).unflatten(0, [-1, HEADS]) * q.shape[2] ** -0.5
    return torch.bmm(torch.softmax(scores + bias, -1).flatten(0, 1), v).unflatten(0, [-1, HEADS])


def example(model, device):
    """Two rows, because 1 would be taken for a fixed extent, and what of their shapes is open."""
    rows, seq = torch.export.Dim("rows", min=1, max=32), torch.export.Dim("seq", min=2, max=512)
    if model == "conv":
        return (torch.rand(2, 3, SIDE, SIDE, device=device),), ({0: rows},)
    ids = torch.randint(0, WORDS, (2, 64), device=device)
    return (ids, torch.ones_like(ids)), ({0: rows, 1: seq}, {0: rows, 1: seq})


def compile_package(work, model, device):
    # A package for the processor computes with as many threads as there were when it was compiled; a lane has one.
    torch.set_num_threads(1)
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    Layer.attend = attend
    module = {"conv": residual, "encoder": Encoder}[model]()
    module.load_state_dict(torch.load(f"{work}/{model}.weights"))
    module = module.eval().to(device)
    inputs, shapes = example(model, device)
    made = pathlib.Path(work) / "made" / f"{model}-aoti"
    (made / "1").mkdir(parents=True)
    toml = pathlib.Path(f"{work}/made/{model}/model.toml").read_text()
    (made / "model.toml").write_text(toml.replace("[model]\n", '[model]\nformat = "aoti"\n'))
    # Two libraries for processors are asked how many rows there are before they take a convolution; the package would keep the
    # answer for the example's two, and take from 2 to 15. Which library computes is decided again when it runs.
    backends = torch.backends.mkldnn.flags(enabled=False), torch.backends.nnpack.flags(enabled=False)
    shapes_stay_open = torch.fx.experimental._config.patch(backed_size_oblivious=True)
    with torch.no_grad(), shapes_stay_open, backends[0], backends[1]:
        program = torch.export.export(module, inputs, dynamic_shapes=shapes)
        partial = f"{work}/{model}-aoti.pt2"
        # One row, or one word, is no less than it takes, although the example had more.
        torch._inductor.aoti_compile_and_package(
            program, package_path=partial, inductor_configs={"aot_inductor.check_lowerbound": False})
    path = made / "1" / "model.pt2"
    shutil.move(partial, path)
    return path.stat().st_size


def main():
    work, model, device = sys.argv[1:]
    begun = time.monotonic()
    try:
        if device == "cuda":
            find_cuda()
        size = compile_package(work, model, device)
        told = f"{model} compiled for {device} in {time.monotonic() - begun:.0f} s, {size / 1e6:.0f} MB"
    except Exception as error:  # noqa: BLE001: whatever it is, the other steps go on
        traceback.print_exc()
        first = (str(error).strip().splitlines() or [""])[0]
        told = f"LEFT OUT: {model} was not compiled: {type(error).__name__}: {first:.200}"
    # Under another name first: who waits for it must not read half a line.
    partial = pathlib.Path(work) / f"aoti-{model}.partial"
    partial.write_text(told + "\n")
    partial.rename(pathlib.Path(work) / f"aoti-{model}")


if __name__ == "__main__":
    main()
