"""Wheels: which, how large, downloaded whole or not at all, unpacked in part, never left half done.

Owns what libtorch.py and minilm.py have in common. Knows nothing of what is inside a wheel. Why pip does the
download and not we: it honours whatever index, mirror, proxy and certificates this machine is set up with. Why it is
told another Python's tags: libtorch's libraries do not depend on Python, so whichever `python3` runs this will do.
Needs Python 3.9 and its standard library.
"""

import collections
import contextlib
import fcntl
import hashlib
import json
import os
import pathlib
import platform
import shutil
import signal
import subprocess
import sys
import zipfile

# file: its exact name; size: bytes to download; unpacked: bytes that we keep of it, at most; sha256: of the file.
Wheel = collections.namedtuple("Wheel", "file size unpacked sha256")

MARKER = "installed.json"
CHUNK_BYTES = 1 << 20
OLDEST_PIP = (21, 0)
# Room that must be left on the disk afterwards.
SPARE_BYTES = 500_000_000
# glibc that the wheels are built for, newest first; pip wants every tag spelt out.
NEWEST_GLIBC_MINOR, OLDEST_GLIBC_MINOR = 28, 5
OLD_TAGS = ("manylinux2014_x86_64", "manylinux2010_x86_64", "manylinux1_x86_64")


class Refusal(Exception):
    """Something is missing or wrong; the text is one line and says what to do."""


def megabytes(size):
    return f"{size / 1e6:,.0f} MB" if size >= 10_000_000 else f"{size / 1e6:,.1f} MB"


def say(text):
    print(text, flush=True)


def run(main):
    """Runs a script's `main`, turning every expected end into one line and an exit code."""
    # A polite kill must clean up just like Ctrl-C.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        main()
    except KeyboardInterrupt:
        sys.exit("\ninterrupted; nothing was left half-installed")
    except Refusal as refusal:
        sys.exit(f"error: {refusal}")
    except OSError as error:
        sys.exit(f"error: {error}")


@contextlib.contextmanager
def only_one(folder):
    """Two set-ups at once would clean up each other's work; the second waits."""
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / ".setup.lock", "w", encoding="utf-8") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("another set-up is running here; waiting for it")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def check_machine():
    if sys.platform != "linux" or platform.machine() != "x86_64":
        raise Refusal(f"libtorch is set up for x86_64 Linux only, this is {platform.machine()} {platform.system()}")
    if platform.libc_ver()[0] != "glibc":
        raise Refusal("libtorch needs a Linux with glibc (Debian, Ubuntu, Fedora, …), not musl")


def check_pip():
    found = subprocess.run([sys.executable, "-m", "pip", "--version"], capture_output=True, text=True, check=False)
    if found.returncode != 0:
        raise Refusal("pip is missing: apt-get install python3-pip")
    version = tuple(int(part) for part in found.stdout.split()[1].split(".")[:2] if part.isdigit())
    if version < OLDEST_PIP:
        raise Refusal("pip is too old: python3 -m pip install --user --upgrade pip")


def check_disk(folder, needed):
    free = shutil.disk_usage(folder).free
    if free < needed + SPARE_BYTES:
        raise Refusal(
            f"too little disk: {megabytes(needed + SPARE_BYTES)} needed, {megabytes(free)} free at {folder}: "
            "free some, or choose another place with --to"
        )
    return free


def is_whole(path, wheel):
    if not path.is_file() or path.stat().st_size != wheel.size:
        return False
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while chunk := file.read(CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest() == wheel.sha256


def announce(what, wheels, downloads, target):
    """Says what will come and how large it is, checks that there is room; answers the wheels not here yet."""
    missing = [wheel for wheel in wheels if not is_whole(downloads / wheel.file, wheel)]
    if missing:
        check_pip()
    to_load, to_keep = sum(wheel.size for wheel in missing), sum(wheel.unpacked for wheel in wheels)
    free = check_disk(downloads, to_load + to_keep)
    loading = f"{megabytes(to_load)} to download" if missing else "nothing to download"
    say(f"{what}: {loading}, about {megabytes(to_keep)} on disk in {target} "
        f"({megabytes(free)} free)")
    for wheel in wheels:
        name, version = wheel.file.split("-")[:2]
        here = "" if wheel in missing else "   (already downloaded)"
        say(f"  {megabytes(wheel.size):>10}  {name.replace('_', '-')} {version}{here}")
    return missing


def download(wheel, downloads):
    """Gets one wheel by pip, into a folder of its own first: a half one is never taken for whole."""
    name, version = wheel.file.split("-")[:2]
    requirement = f"{name.replace('_', '-')}=={version}"
    partial = downloads / f"{wheel.file}.partial"
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        # By file, because only there pip takes the digest that the wheel must have.
        wanted = partial / "wanted.txt"
        wanted.write_text(f"{requirement} --hash=sha256:{wheel.sha256}\n", encoding="utf-8")
        tags = [f"manylinux_2_{minor}_x86_64" for minor in range(NEWEST_GLIBC_MINOR, OLDEST_GLIBC_MINOR - 1, -1)]
        command = [sys.executable, "-m", "pip", "download", "--disable-pip-version-check", "--no-deps",
                   "--only-binary=:all:", "--python-version", "3.11", "--implementation", "cp",
                   "--abi", "cp311", "--abi", "none", "--dest", str(partial), "--requirement", str(wanted)]
        for tag in (*tags, *OLD_TAGS, "any"):
            command += ["--platform", tag]
        if sys.stdout.isatty():
            command += ["--progress-bar", "on"]
        else:
            command += ["--quiet", "--progress-bar", "off"]
            say(f"downloading {requirement} ({megabytes(wheel.size)})")
        if subprocess.run(command, check=False).returncode != 0:
            raise Refusal(f"pip could not download {requirement}; its own words are above. Run this again to go on")
        if not is_whole(partial / wheel.file, wheel):
            raise Refusal(f"pip did not bring {wheel.file} as expected: is a mirror serving other files?")
        os.replace(partial / wheel.file, downloads / wheel.file)
    finally:
        _clear(partial)


def unpack(wheel, downloads, into, place_of):
    """Unpacks what `place_of(name)` gives a place below `into`; None skips. Answers {place: bytes}."""
    written = {}
    with zipfile.ZipFile(downloads / wheel.file) as archive:
        kept = [(entry, place) for entry in archive.infolist()
                if not entry.is_dir() and (place := place_of(entry.filename))]
        total, done, shown = sum(entry.file_size for entry, _ in kept), 0, -1
        for entry, place in kept:
            if place.startswith("/") or ".." in pathlib.PurePosixPath(place).parts:
                raise Refusal(f"{wheel.file} holds a file outside its folder: {entry.filename}")
            path = into / place
            path.parent.mkdir(parents=True, exist_ok=True)
            with archive.open(entry) as source, open(path, "wb") as target:
                while chunk := source.read(CHUNK_BYTES):
                    target.write(chunk)
                    done += len(chunk)
                    percent = 100 * done // total
                    if sys.stdout.isatty() and percent != shown:
                        shown = percent
                        print(f"\runpacking {wheel.file.split('-')[0]}: {percent} %", end="", flush=True)
            written[place] = entry.file_size
    start = "\r" if sys.stdout.isatty() else ""
    say(f"{start}unpacked {wheel.file.split('-')[0]}: {len(written):,} files, {megabytes(sum(written.values()))}")
    return written


@contextlib.contextmanager
def replacing(target):
    """A folder to fill, which becomes `target` if all goes well and vanishes if not."""
    partial, old = target.with_name(f"{target.name}.partial"), target.with_name(f"{target.name}.old")
    _clear(partial)
    if old.exists() and not target.exists():
        os.replace(old, target)  # a run was killed between its two renames
    _clear(old)
    partial.mkdir(parents=True)
    try:
        yield partial
        if target.exists():
            os.replace(target, old)
        os.replace(partial, target)
    finally:
        _clear(partial)
        if target.exists():
            _clear(old)


def mark(folder, what, files):
    """Says in `folder` what it holds. Written last: without it a folder counts as not installed."""
    (folder / MARKER).write_text(json.dumps({**what, "files": files}, indent=1) + "\n", encoding="utf-8")


def marked(folder):
    """What `mark` said, if the files are still there in their sizes; else None."""
    try:
        what = json.loads((folder / MARKER).read_text(encoding="utf-8"))
        whole = all((folder / place).stat().st_size == size for place, size in what.pop("files").items())
    except (OSError, ValueError, KeyError, AttributeError):
        return None
    return what if whole else None


def discard(wheels, downloads):
    for wheel in wheels:
        (downloads / wheel.file).unlink(missing_ok=True)


def _clear(folder):
    if not folder.exists():
        return
    # Pressing Ctrl-C again must not stop the cleaning up.
    previous = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        shutil.rmtree(folder)
    finally:
        signal.signal(signal.SIGINT, previous)
