#!/usr/bin/env bash
# Shows a real question answered through Tenon: a host starts, a sandboxed plugin turns a question and some
# documents into rows, a real model scores them in one batch, and the plugin ranks the answer.
#
# `make demo` calls it when everything is built. By itself it needs only the built binaries, models/ and
# functions/ and python3. It stops the host that it started, and nothing else.
#
#   make demo QUESTION="how long may I keep a film?"     ask something of your own
#   DOCUMENTS=my.txt make demo                           among your own documents, one a line
#   KEEP=1 make demo                                     leave the host running until Ctrl-C
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

# Shares no telling word with its answer. The model is small and can be fooled by shared words: asked "My loaf is not
# getting bigger before it goes into the oven. What can I do?", it puts the baking powder before the yeast.
readonly QUESTION=${QUESTION:-When does the last boat go?}
readonly DOCUMENTS=${DOCUMENTS:-examples/documents.txt}
readonly TENON=target/debug/tenon
readonly DATA=.tenon/demo-data
readonly LOG=$DATA/host.log
readonly READY_SECONDS=300 STOP_SECONDS=20 LOG_LINES=20

bold='' dim='' green='' red='' off=''
if [[ -t 1 && -z ${NO_COLOR:-} ]]; then
    bold=$'\e[1m' dim=$'\e[2m' green=$'\e[32m' red=$'\e[31m' off=$'\e[0m'
fi

say() { printf '%s\n' "$*"; }
fail() {
    printf '%serror:%s %s\n' "$red" "$off" "$1" >&2
    if [[ -s $LOG ]]; then
        printf 'the last lines of %s:\n' "$LOG" >&2
        tail -n "$LOG_LINES" "$LOG" | sed 's/^/  /' >&2
    fi
    if [[ -n ${2:-} ]]; then printf 'hint: %s\n' "$2" >&2; fi
    exit 1
}

# Only the process started here is stopped; its answers in flight are finished first (SIGTERM drains).
host_pid=''
stop() {
    if [[ -z $host_pid ]]; then return 0; fi
    local pid=$host_pid
    host_pid=''
    kill -TERM "$pid" 2>/dev/null || return 0
    for ((tick = 0; tick < STOP_SECONDS * 10; tick++)); do
        kill -0 "$pid" 2>/dev/null || break
        sleep 0.1
    done
    kill -KILL "$pid" 2>/dev/null || true
    wait "$pid" 2>/dev/null || true
}
trap stop EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

# The first of 100 ports from $1 on that nobody listens at.
free_port() {
    python3 - "$1" <<'PYTHON'
import socket, sys
first = int(sys.argv[1])
for port in range(first, first + 100, 2):
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            continue
    print(port)
    sys.exit()
sys.exit(f"no free port from {first} on")
PYTHON
}

# 200 on /health/ready, asked with nothing but the shell; in a subshell, so that a host that hangs up ends only that.
is_ready() (
    status=''
    exec 3<>"/dev/tcp/127.0.0.1/$port" || exit 1
    printf 'GET /health/ready HTTP/1.1\r\nhost: 127.0.0.1\r\nconnection: close\r\n\r\n' >&3
    read -r -t 5 status <&3 || true
    [[ $status == "HTTP/1.1 200"* ]]
) 2>/dev/null

wait_until_ready() {
    local began=$SECONDS shown=-1 waited
    until is_ready; do
        waited=$((SECONDS - began))
        if ! kill -0 "$host_pid" 2>/dev/null; then
            local status=0
            wait "$host_pid" || status=$?
            host_pid=''
            fail "the host ended before it was ready (exit status $status)" "$TENON doctor --models models --data $DATA"
        fi
        ((waited < READY_SECONDS)) || fail "the host was not ready within $READY_SECONDS s" "$TENON models --host $host"
        if [[ -t 1 ]]; then
            printf '\r  %swaiting for the model … %d s%s' "$dim" "$waited" "$off"
        elif ((waited != shown && waited % 10 == 0)); then
            say "  waiting for the model … $waited s"
        fi
        shown=$waited
        sleep 0.2
    done
    if [[ -t 1 ]]; then printf '\r\e[K'; fi
    say "  ready after $((SECONDS - began)) s: $host"
}

ask() {
    if ! "$TENON" --host "$host" invoke demo/reranker --body "$DATA/request.json" --json >"$1" 2>"$DATA/invoke.err" </dev/null; then
        sed 's/^/  /' "$DATA/invoke.err" "$1" >&2
        fail "the question got no answer" "$TENON functions --host $host; $TENON doctor"
    fi
}

# Where the time went: the host's own account of it.
timings() {
    python3 - "$1" <<'PYTHON'
import json, sys
with open(sys.argv[1], encoding="utf-8") as file:
    timing = json.load(file)["timing"]
took = timing.get("process_time_ms")
print(f"  {took:.1f} ms in the host" if took is not None else f"  {timing['elapsed_ms']:.1f} ms seen from here", end="")
stages = ", ".join(f"{stage['name']} {stage['dur_ms']:.2f}" for stage in timing.get("stages", []))
print(f": {stages} (ms)" if stages else "")
PYTHON
}

for file in "$TENON" "$TENON-host" models functions "$DOCUMENTS"; do
    [[ -e $file ]] || fail "$file is missing" "run \`make demo\`, which builds and lays out everything"
done
mkdir -p "$DATA"
: >"$LOG"

python3 - "$QUESTION" "$DOCUMENTS" >"$DATA/request.json" <<'PYTHON' || fail "cannot use $DOCUMENTS"
import json, sys
question, path = sys.argv[1:]
with open(path, encoding="utf-8") as file:
    documents = [line.strip() for line in file if line.strip()]
if not documents:
    sys.exit(f"{path} has no documents; put one on each line")
json.dump({"query": question, "documents": documents}, sys.stdout, ensure_ascii=False)
PYTHON

port=$(free_port 8080) || fail "no port is free for the host"
control=$(free_port 8081) || fail "no port is free for the control plane"
readonly host=http://127.0.0.1:$port
say "${bold}Starting a host${off} ${dim}(the first start measures the model, some seconds; later ones remember)${off}"
"$TENON" serve --dev-functions functions --models models --data "$DATA" \
    --listen "127.0.0.1:$port" --control-listen "127.0.0.1:$control" >>"$LOG" 2>&1 </dev/null &
host_pid=$!
wait_until_ready

say ""
say "${bold}Question${off}"
say "  $QUESTION"
ask "$DATA/answer.json"
say ""
say "${bold}Documents, best first${off} ${dim}(cosine of question and document)${off}"
python3 - "$DATA/request.json" "$DATA/answer.json" "$bold$green" "$off" <<'PYTHON' || fail "the answer is not what a reranker says: $DATA/answer.json"
import json, sys
with open(sys.argv[1], encoding="utf-8") as file:
    documents = json.load(file)["documents"]
with open(sys.argv[2], encoding="utf-8") as file:
    body = json.load(file)["body"]
best, off = sys.argv[3:]
for rank, result in enumerate(sorted(body["results"], key=lambda result: -result["relevance_score"])):
    before, after = (best, off) if rank == 0 else ("", "")
    print(f"  {before}{result['relevance_score']:+.4f}  {documents[result['index']]}{after}")
PYTHON
say ""
say "${bold}Where the time went${off}"
timings "$DATA/answer.json"
say "${bold}The same question again, whose answer is remembered${off}"
ask "$DATA/again.json"
timings "$DATA/again.json"

say ""
say "${bold}How to go on${off}"
if [[ -z ${KEEP:-} ]]; then
    say "  keep the host running   KEEP=1 make demo    (then, in another terminal:)"
fi
say "  ask with curl           curl -s $host/v1/functions/demo/reranker -H 'content-type: application/json' --data @$DATA/request.json"
say "  ask with tenon          $TENON --host $host invoke demo/reranker --body $DATA/request.json"
say "  what is there           $TENON --host $host functions; $TENON --host $host models"
say "  what is wrong           $TENON doctor"
say "  the host's log          $LOG"
if [[ -n ${KEEP:-} ]]; then
    say "  stop the host           Ctrl-C here"
    trap 'exit 0' INT # from here on, the way it is meant to end
    wait "$host_pid" || fail "the host ended by itself"
else
    say "${dim}Stopping the host.${off}"
fi
