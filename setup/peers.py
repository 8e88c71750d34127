"""Sets up what `make bench BENCH=peers` holds Tenon against: mosec and FastAPI with torch, in a virtual environment.

Owns when that is done anew; which packages is in tests/bench/peers/requirements.txt. Only this one benchmark wants it:
PyPI's torch comes with CUDA's libraries, which it loads even where there is no GPU.
"""

import argparse
import hashlib
import os
import pathlib
import shutil
import subprocess
import sys

sys.dont_write_bytecode = True
from wheels import Refusal, check_disk, mark, marked, megabytes, only_one, run, say  # noqa: E402

OLDEST_PYTHON = (3, 11)
DOWNLOAD_BYTES, DISK_BYTES = 2_600_000_000, 4_800_000_000


def install(target, requirements, downloads):
    say(f"peers: about {megabytes(DOWNLOAD_BYTES)} to download, {megabytes(DISK_BYTES)} on disk in {target}")
    check_disk(target.parent, DOWNLOAD_BYTES + DISK_BYTES)
    shutil.rmtree(target, ignore_errors=True)
    if subprocess.run([sys.executable, "-m", "venv", str(target)], check=False).returncode != 0:
        raise Refusal("python3 makes no virtual environment: apt-get install python3-venv")
    command = [str(target / "bin/python"), "-m", "pip", "install", "--disable-pip-version-check", "--quiet",
               "--find-links", str(downloads), "--requirement", str(requirements)]
    if subprocess.run(command, check=False).returncode != 0:
        raise Refusal("pip could not install the peers; its own words are above")


def main():
    parser = argparse.ArgumentParser(description="Set up the servers that Tenon is measured against.")
    root = pathlib.Path(os.path.abspath(__file__)).parent.parent
    parser.add_argument("--to", type=pathlib.Path, default=root / ".tenon/peers", help="where they go (%(default)s)")
    target = parser.parse_args().to.absolute()
    if sys.version_info < OLDEST_PYTHON:
        raise Refusal("the peers need Python 3.11 or newer")
    requirements = root / "tests/bench/peers/requirements.txt"
    wanted = {"requirements": hashlib.sha256(requirements.read_bytes()).hexdigest()}
    with only_one(target.parent):
        if marked(target) == wanted:
            say("mosec, FastAPI and torch are already there")
            return
        install(target, requirements, root / ".tenon/downloads")
        mark(target, wanted, {})
        say(f"mosec, FastAPI and torch are ready in {target}")


if __name__ == "__main__":
    run(main)
