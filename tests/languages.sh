#!/usr/bin/env bash
# Builds the plugins of plugins/python and plugins/javascript, has `tenon inspect` judge them, and holds their answers
# against an independent implementation's, against each other, and against the same plugin in Rust. `make test-languages`;
# needs node 20, npm, and what `make test` needs; the first time it downloads some 120 MB. Ends within ten minutes.
#
#   tests/languages.sh FOLDER-WITH-tenon-AND-tenon-host RUST-COMPONENT [times]
#
# With `times` it also tells what each stage of a call takes; the figures of docs/languages.md are made so.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
readonly programs=$(realpath "${1:?the folder with tenon and tenon-host}")
readonly rust=$(realpath "${2:?the component of tests/plugins/vectors}")
readonly measure=${3:-}
readonly models=${MODELS:-models} work=.tenon/languages READY_SECONDS=300 STOP_SECONDS=20
readonly functions=$work/functions log=$work/host.log

host_pid=
stop() {
    [[ -n $host_pid ]] || return 0
    kill -TERM "$host_pid" 2>/dev/null || return 0
    for ((tick = 0; tick < STOP_SECONDS * 10; tick++)); do
        kill -0 "$host_pid" 2>/dev/null || break
        sleep 0.1
    done
    kill -KILL "$host_pid" 2>/dev/null || true
    wait "$host_pid" 2>/dev/null || true
    host_pid=
}
trap stop EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
fail() {
    printf 'error: %s\n' "$1" >&2
    [[ ! -s $log ]] || tail -n 20 "$log" | cut -c 1-400 >&2
    exit 1
}

lay_out() { # language, function.toml, component
    mkdir -p "$functions/lang/$1"
    cp "$2" "$functions/lang/$1/function.toml"
    cp "$3" "$functions/lang/$1/vectors.wasm"
    "$programs/tenon" inspect "$3" --function "$2" --json >"$work/$1.json" \
        || { "$programs/tenon" inspect "$3" --function "$2" || true; fail "a host would not take $1"; }
    printf '  %s: %s bytes, would deploy\n' "$1" "$(stat -c %s "$3")"
}

mkdir -p "$work"
rm -rf "$functions" "$log"
python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' || fail "python3 is older than 3.11: apt-get install python3"
node -e 'process.exit(parseInt(process.versions.node) < 20 ? 1 : 0)' 2>/dev/null \
    || fail "node 20 or newer is missing: apt-get install nodejs"
command -v npm >/dev/null || fail "npm is missing: apt-get install npm"
for language in python javascript; do
    printf '==> the component in %s\n' "$language"
    bash "plugins/$language/build.sh" --tools
    begun=${EPOCHREALTIME/./}
    bash "plugins/$language/build.sh" "$work/$language.wasm"
    tenths=$(((${EPOCHREALTIME/./} - begun) / 100000))
    printf '  built in %s.%s s\n' "$((tenths / 10))" "$((tenths % 10))"
done
printf '==> tenon inspect\n'
lay_out rust tests/plugins/vectors/function.toml "$rust"
for language in python javascript; do
    lay_out "$language" "plugins/$language/function.toml" "$work/$language.wasm"
    # The same content, whose instances serve again.
    { printf 'reuse = {}\n'; cat "plugins/$language/function.toml"; } >"$work/kept.toml"
    lay_out "$language-kept" "$work/kept.toml" "$work/$language.wasm"
done
readonly functions_asked="lang/rust lang/python lang/python-kept lang/javascript lang/javascript-kept"

printf '==> questions without a host\n'
PYTHONDONTWRITEBYTECODE=1 python3 -m unittest discover --quiet --start-directory plugins/python --pattern '*_test.py'
node --test plugins/javascript/ >"$work/node.log" 2>&1 \
    || { cat "$work/node.log" >&2; fail "plugins/javascript fails its tests"; }

printf '==> a host with all three (compiling a language runtime takes its time)\n'
read -r port control < <(python3 -c '
import socket
probes = [socket.create_server(("127.0.0.1", 0)) for _ in range(2)]
print(*(probe.getsockname()[1] for probe in probes))')
"$programs/tenon" serve --dev-functions "$functions" --models "$models" --data "$work/data" \
    --listen "127.0.0.1:$port" --control-listen "127.0.0.1:$control" >"$log" 2>&1 </dev/null &
host_pid=$!
for ((waited = 0; ; waited++)); do
    curl -fsS -o /dev/null "http://127.0.0.1:$port/health/ready" 2>/dev/null && break
    kill -0 "$host_pid" 2>/dev/null || fail "the host ended before it was ready"
    ((waited < READY_SECONDS * 5)) || fail "the host was not ready within $READY_SECONDS s"
    sleep 0.2
done
python3 tests/languages/ask.py deploys "$log"
printf '==> answers\n'
# shellcheck disable=SC2086 # names without spaces
python3 tests/languages/ask.py compare "127.0.0.1:$port" $functions_asked \
    || fail "the languages do not agree"
if [[ $measure == times ]]; then
    printf '==> times (load %s)\n' "$(cut -d ' ' -f 1-3 /proc/loadavg)"
    # shellcheck disable=SC2086 # names without spaces
    python3 tests/languages/ask.py times "127.0.0.1:$port" $functions_asked
fi
printf 'languages: Python and JavaScript answer like Rust\n'
