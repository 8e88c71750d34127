"""Holds the Dockerfile against the checkout, and runs what its image runs, where no container engine does.

  python3 tests/containers.py                 what the image is made of is there: files, make targets, the toolchain
  python3 tests/containers.py target/debug    then lays out its last stage with the programs of that folder and starts
                                              it as an engine would: in its folder, with its environment and nothing else

Owns what a linter cannot know. Knows the few instructions that our Dockerfile uses and refuses others; the user, the
read-only root and the limits are the engine's, and not tried here. Needs Python 3.9, and for the second form what
`make build` made.
"""

import contextlib
import fnmatch
import json
import os
import pathlib
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(os.path.abspath(__file__)).parent.parent
# Where the stages before the last one work: this checkout, as they see it. Programs are put into `bin`.
WORKPLACE = "/tenon"
PROGRAMS = f"{WORKPLACE}/bin"
KNOWN = {"FROM", "ENV", "RUN", "WORKDIR", "ARG", "COPY", "LABEL", "USER", "VOLUME", "EXPOSE", "STOPSIGNAL",
         "HEALTHCHECK", "ENTRYPOINT", "CMD"}
START_SECONDS, END_SECONDS = 60, 30
# What must never be in the context: downloads, builds, and what an operator keeps in a checkout.
PRIVATE = (".tenon/libtorch/installed.json", "target/release/tenon", "data/admin-token", "secrets/redis-password",
           "models/minilm/model.toml", "functions/demo/reranker/function.toml", ".git/config")


class Wrong(Exception):
    """Something does not fit; the text says what."""


def instructions():
    """(stage, instruction, rest) for each; a stage is its number."""
    text = re.sub(r"(?m)^\s*#.*\n", "", (ROOT / "Dockerfile").read_text(encoding="utf-8"))
    stage = -1
    for line in filter(str.strip, re.sub(r"\\\n\s*", " ", text).splitlines()):
        word, rest = line.split(maxsplit=1)
        if word not in KNOWN:
            raise Wrong(f"the instruction {word} is not known here")
        stage += word == "FROM"
        yield stage, word, rest.strip()


def ignored(path):
    """What .dockerignore says of a path: the last line that names it, or a folder above it, decides."""
    answer = False
    above = [str(part) for part in (path, *path.parents)][:-1]
    for line in (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines():
        pattern = line.strip().lstrip("!").strip("/")
        if pattern and not line.startswith("#"):
            named = pattern[3:] if pattern.startswith("**/") else pattern
            tried = [part.rsplit("/", 1)[-1] for part in above] if named != pattern else above
            if any(fnmatch.fnmatchcase(part, named) for part in tried):
                answer = not line.startswith("!")
    return answer


def context():
    """The files that an engine would be given."""
    files = subprocess.run(["git", "ls-files", "--cached", "--others", "--exclude-standard"], cwd=ROOT, check=True,
                           capture_output=True, text=True).stdout.splitlines()
    return {file for file in files if not ignored(pathlib.PurePosixPath(file)) and os.path.lexists(ROOT / file)}


def copies(lines):
    """(stage, stage it comes from or None, sources, target) for each COPY."""
    for stage, word, rest in lines:
        if word == "COPY":
            *sources, target = rest.split()
            origin = sources.pop(0).split("=")[1] if sources[0].startswith("--from=") else None
            yield stage, origin, sources, target


def check_parts(lines):
    files = context()
    stages = [rest.split(" AS ")[1] if " AS " in rest else None for _, word, rest in lines if word == "FROM"]
    for stage, origin, sources, _ in copies(lines):
        if origin and origin not in stages[:stage]:
            raise Wrong(f"COPY --from={origin}: no stage before has that name")
        for source in sources if not origin else ():
            if not (source == "." or source in files or any(file.startswith(f"{source}/") for file in files)):
                raise Wrong(f"COPY {source}: it is not in the checkout, or .dockerignore leaves it out")
    if private := [path for path in PRIVATE if not ignored(pathlib.PurePosixPath(path))]:
        raise Wrong(f".dockerignore lets {', '.join(private)} into an image")
    members = re.search(r"(?s)\bmembers = \[(.*?)\]", (ROOT / "Cargo.toml").read_text(encoding="utf-8"))[1]
    for member in re.findall(r'"(.+?)"', members):
        if str(pathlib.PurePosixPath(member) / "Cargo.toml") not in files:
            raise Wrong(f"{member} is a member of the workspace, and .dockerignore leaves it out")
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    runs = [re.sub(r"--mount=\S+ ", "", rest) for _, word, rest in lines if word == "RUN"]
    commands = [command.split() for run in runs for command in run.split("&&")]
    for target in [command[1] for command in commands if command[0] == "make"]:
        if not re.search(rf"(?m)^{target}:", makefile):
            raise Wrong(f"make {target}: the Makefile has no such target")
    channel = re.search(r'channel = "(.+?)"', (ROOT / "rust-toolchain.toml").read_text(encoding="utf-8"))[1]
    told = [rest for _, word, rest in lines if rest.startswith(("rust:", "RUSTUP_TOOLCHAIN="))]
    if len(told) != 2 or any(not re.match(rf"[a-zA-Z_]+[:=]{re.escape(channel)}\b", rest) for rest in told):
        raise Wrong(f"the toolchain is {channel} (rust-toolchain.toml), in the Dockerfile {' and '.join(told)}")


def lay_out(lines, last, programs, image):
    """The files of the last stage, linked where that is possible: libtorch is half a gigabyte."""
    def link(source, target):
        try:
            os.link(source, target)
        except OSError:
            shutil.copy2(source, target)

    for stage, origin, sources, target in copies(lines):
        for source in sources if stage == last else ():
            into = image / target.lstrip("/")
            if source == PROGRAMS:
                into.mkdir(parents=True, exist_ok=True)
                for name in ("tenon", "tenon-host"):
                    link(programs / name, into / name)
                continue
            real = ROOT / (os.path.relpath(source, WORKPLACE) if origin else source)
            if not real.exists():
                raise Wrong(f"COPY {source}: {real} is not there (make build)")
            if real.is_dir():
                shutil.copytree(real, into, copy_function=link, symlinks=True, dirs_exist_ok=True)
            else:
                into.mkdir(parents=True, exist_ok=True)
                link(real, into / real.name)


def free_ports():
    with contextlib.ExitStack() as held:
        sockets = [held.enter_context(socket.socket()) for _ in range(2)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


class Image:
    """The last stage in a folder, and what its Dockerfile says of running it."""

    def __init__(self, lines, programs, folder):
        self.root = pathlib.Path(os.path.realpath(folder))
        self.said = {word: rest for stage, word, rest in lines if stage == lines[-1][0]}
        lay_out(lines, lines[-1][0], programs, self.root)
        for volume in json.loads(self.said["VOLUME"]):
            (self.root / volume.lstrip("/")).mkdir(parents=True)
        self.environment = dict(pair.split("=", 1) for pair in shlex.split(self.said["ENV"]))
        self.environment["PATH"] = f"{self.root}/usr/local/bin"

    def command(self, words):
        """What subprocess is told, which would look for programs by the PATH of this process."""
        return {"args": [f"{self.root}/usr/local/bin/{words[0]}", *words[1:]], "env": self.environment,
                "cwd": self.root / self.said["WORKDIR"].lstrip("/"), "stdin": subprocess.DEVNULL}

    def run(self, words):
        done = subprocess.run(**self.command(words), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                              check=False, timeout=END_SECONDS)
        return done.returncode, f"`{' '.join(words)}` ended with {done.returncode}:\n{done.stdout}"

    def start(self):
        return json.loads(self.said["ENTRYPOINT"]) + json.loads(self.said["CMD"])


def composed(image):
    """What docker-compose.yml sets, with a secret where it says that one is. Read by its form: Python brings no YAML."""
    secrets = image.root / "run/secrets"
    secrets.mkdir(parents=True)
    (secrets / "redis-password").write_text("for tests alone\n", encoding="utf-8")
    pairs = re.findall(r'(?m)^ +(TENON_\w+): "?([^"\n]+)', (ROOT / "docker-compose.yml").read_text(encoding="utf-8"))
    return {name: value.replace("/run/secrets", str(secrets)) for name, value in pairs}


def try_out(image):
    own, (data, control) = image.environment, free_ports()
    for whose, settings in (("docker-compose.yml", composed(image)), ("the image", {})):
        image.environment = {**own, **settings}
        code, text = image.run([*image.start(), "--check"])
        if code != 0:
            raise Wrong(f"a host does not take what {whose} sets: {text}")
    # From here on all as the image says but for the ports, which may be somebody's here.
    image.environment.update(TENON_LISTEN=f"127.0.0.1:{data}", TENON_CONTROL_LISTEN=f"127.0.0.1:{control}")
    check = json.loads(image.said["HEALTHCHECK"].split(" CMD ", 1)[1].replace(":8080/", f":{data}/"))
    if image.run(check)[0] == 0:
        raise Wrong("the health check is content although nothing runs")
    with tempfile.TemporaryFile("w+") as log:
        host = subprocess.Popen(**image.command(image.start()), stdout=log, stderr=log)
        try:
            follow(host, check, image, control)
            host.send_signal(getattr(signal, image.said["STOPSIGNAL"]))
            if host.wait(END_SECONDS) != 0:
                raise Wrong(f"after {image.said['STOPSIGNAL']} the host ended with {host.returncode}")
        except (Wrong, subprocess.TimeoutExpired) as wrong:
            log.seek(0)
            raise Wrong(f"{wrong}\n{log.read()}") from None
        finally:
            host.kill()
            host.wait()


def follow(host, check, image, control):
    """From the start to what an operator does first."""
    until = time.monotonic() + START_SECONDS
    while (checked := image.run(check))[0] != 0:
        if host.poll() is not None or time.monotonic() > until:
            raise Wrong(f"the host is not healthy: {checked[1]}")
        time.sleep(0.1)
    mapped = pathlib.Path(f"/proc/{host.pid}/maps").read_text(encoding="utf-8").splitlines()
    libraries = {line.split()[-1] for line in mapped if "/libtorch" in line or "/libc10" in line or "/nvidia/" in line}
    if not libraries or any(not library.startswith(f"{image.root}/") for library in libraries):
        raise Wrong(f"libraries that are not the image's: {', '.join(sorted(libraries)) or 'none at all'}")
    code, text = image.run(["tenon", "tenants", "--control", f"127.0.0.1:{control}"])
    if code != 0:
        raise Wrong(f"in the image's folder the host's token is not found: {text}")


def main():
    lines = list(instructions())
    check_parts(lines)
    print(f"Dockerfile: {len(lines)} instructions, and what they need is in the checkout")
    for programs in sys.argv[1:]:
        with tempfile.TemporaryDirectory(prefix="tenon-image-") as folder:
            try_out(Image(lines, pathlib.Path(programs).absolute(), folder))
        print(f"its last stage runs with the programs of {programs}: healthy, and ended by its signal")


if __name__ == "__main__":
    try:
        main()
    except Wrong as wrong:
        sys.exit(f"error: {wrong}")
