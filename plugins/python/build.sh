#!/usr/bin/env bash
# Builds the component: plugins/python/build.sh [FILE] (.tenon/languages/python.wasm), or only sets its
# tools up: --tools. What it needs beside python3 it puts into .tenon/languages, once for each requirements.txt.
#
# WASI's imports stay: `--stub-wasi` would replace each by a core module of its own, 38 in all, and a host has room for 20.
# Nothing stands behind files and sockets (`tenon inspect` says "every call refuses"); what works is clocks, random numbers
# and standard error, on which Python writes a traceback before it traps.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../.." && pwd)
tools=$root/.tenon/languages/python
to=$(realpath -m -- "${1:-$root/.tenon/languages/python.wasm}")

if ! cmp -s "$here/requirements.txt" "$tools/installed"; then
    printf 'componentize-py into %s (17 MB to download)\n' "${tools#"$root/"}"
    rm -rf "$tools"
    python3 -m venv "$tools"
    "$tools/bin/python" -m pip install --quiet --disable-pip-version-check --require-hashes --no-deps --only-binary :all: \
        --requirement "$here/requirements.txt"
    cp "$here/requirements.txt" "$tools/installed"
fi
[[ ${1:-} != --tools ]] || exit 0
mkdir -p "$(dirname "$to")"
# From here, where it finds the modules; under another name first, because a host may be watching.
cd "$here"
VIRTUAL_ENV=$tools "$tools/bin/componentize-py" --quiet --wit-path "$root/wit" --world transform componentize \
    --python-path "$here" vectors --output "$to.partial"
mv "$to.partial" "$to"
