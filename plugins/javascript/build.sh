#!/usr/bin/env bash
# Builds the component: plugins/javascript/build.sh [FILE] (.tenon/languages/javascript.wasm), or only
# sets its tools up: --tools. What it needs beside node 20 and npm it puts into .tenon/languages, once for each
# package-lock.json.
#
# All of WASI is left out: the plugin needs neither clocks nor random numbers, and tells its faults by `logging`. Leave
# `stdio`, `random` or `clocks` out of the list for `console.log`, `Math.random` or `Date.now`; `http` and `fetch-event` import
# what no host offers.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../.." && pwd)
tools=$root/.tenon/languages/javascript
to=$(realpath -m -- "${1:-$root/.tenon/languages/javascript.wasm}")

if ! cmp -s "$here/package-lock.json" "$tools/installed"; then
    printf 'componentize-js into %s (some 100 MB to download, 385 MB on disk)\n' "${tools#"$root/"}"
    rm -rf "$tools"
    mkdir -p "$tools"
    cp "$here/package.json" "$here/package-lock.json" "$tools"
    npm --prefix "$tools" ci --silent --ignore-scripts --no-audit --no-fund
    cp "$here/package-lock.json" "$tools/installed"
fi
[[ ${1:-} != --tools ]] || exit 0
mkdir -p "$(dirname "$to")"
# Under another name first, because a host may be watching.
"$tools/node_modules/.bin/componentize-js" "$here/vectors.js" --wit "$root/wit" --world-name transform \
    --disable stdio random clocks http fetch-event --out "$to.partial"
mv "$to.partial" "$to"
