# What the scripts of examples/ share, to be sourced: words on a terminal, a host that is started on free ports, waited for and
# stopped again. Whoever sources it says first where the host's data lie (DATA), and LOG below that; nobody's host but the
# one started here is touched.

readonly TENON=target/debug/tenon
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
    local models=$1 began=$SECONDS shown=-1 waited
    until is_ready; do
        waited=$((SECONDS - began))
        if ! kill -0 "$host_pid" 2>/dev/null; then
            local status=0
            wait "$host_pid" || status=$?
            host_pid=''
            fail "the host ended before it was ready (exit status $status)" "$TENON doctor --models $models --data $DATA"
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

# Starts a host with the models and functions of two folders, and whatever else is to be said to it, and waits until it is
# ready; sets `host`, the address of its data plane.
start_host() {
    local models=$1 functions=$2 control
    shift 2
    port=$(free_port 8080) || fail "no port is free for the host"
    control=$(free_port 8081) || fail "no port is free for the control plane"
    host=http://127.0.0.1:$port
    say "${bold}Starting a host${off} ${dim}(the first start measures the model, some seconds; later ones remember)${off}"
    "$TENON" serve --dev-functions "$functions" --models "$models" --data "$DATA" \
        --listen "127.0.0.1:$port" --control-listen "127.0.0.1:$control" "$@" >>"$LOG" 2>&1 </dev/null &
    host_pid=$!
    wait_until_ready "$models"
}

readonly SERVICES=.tenon/services

# A host with all services of examples/, built and laid out first where that is still to be done.
start_services() {
    if [[ ! -x $TENON || ! -d $SERVICES/models/detector || ! -d $SERVICES/functions/demo/detector ]]; then
        say "${dim}Nothing is built yet: \`make build services\` does that (the first time takes many minutes).${off}"
        make build services
    fi
    mkdir -p "$DATA"
    : >"$LOG"
    start_host "$SERVICES/models" "$SERVICES/functions" --config examples/tenon.toml
}

# Calls a path with whatever curl is told beside it, shows the command and the answer, and keeps the answer in $DATA/$1.
call() {
    local kept=$DATA/$1 path=$2 argument shown="curl -s '$host$2'"
    shift 2
    for argument; do
        if [[ $argument == -* ]]; then shown+=" $argument"; else shown+=" '$argument'"; fi
    done
    say ""
    say "${bold}\$ $shown${off}"
    curl -sS --fail-with-body "$host$path" "$@" -o "$kept" || fail "that is no answer: $(head -c 2000 "$kept")"
    case $(head -c 1 "$kept") in
        '{' | '[') python3 examples/show.py "$kept" ;;
        *) say "  a picture of $(wc -c <"$kept") bytes: $kept" ;;
    esac
}

# Holds the last answer against the one that is beside the script: the same, but for what the order of additions changes.
expect() { python3 examples/show.py "$DATA/$1" --same-as "$2" || fail "the answer is another than $2"; }
