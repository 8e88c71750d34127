# shellcheck shell=bash
# How the steps of tests/gpu.sh speak to a host: a repository of models for it, its start and end, load on it, its figures. To
# be sourced.
# Folders, the device and how much load there is are said by tests/gpu.sh:
# shellcheck disable=SC2154

readonly DATA_PLANE=127.0.0.1:18080 CONTROL_PLANE=127.0.0.1:18081
host_pid=

tell() { printf '%s\n' "$*" | tee -a "$results/results.txt"; }
tell_lines() { while read -r line; do tell "$1$line"; done; }

# Whether a step can be: some show nothing without a GPU.
on_gpu() { # step
	[ "$device" = cuda ] || tell "LEFT OUT: $1, which needs a GPU"
	[ "$device" = cuda ]
}

# Models lie in the host's repository under any name, with keys of their model.toml changed: place FROM NAME KEY=VALUE...
empty() { rm -rf "$work/models" && mkdir "$work/models"; }
place() {
	local from=$1 to="$work/models/$2" pair
	cp -r "$from" "$to"
	shift 2
	for pair; do sed -i "s/^${pair%%=*} = .*/${pair%%=*} = ${pair#*=}/" "$to/model.toml"; done
}

launch() { # flags of the host
	# Only for a GPU: the programs know where the libraries of this machine are.
	LD_LIBRARY_PATH="${libraries:+$libraries:}${LD_LIBRARY_PATH:-}" "$programs/tenon-host" --models "$work/models" \
		--data "$work/data" --listen "$DATA_PLANE" --control-listen "$CONTROL_PLANE" "$@" >>"$results/host.log" 2>&1 &
	host_pid=$!
}
ask_host() { curl -sS "http://$DATA_PLANE$1"; }
# Starts the host over what lies in the repository, and waits until it is ready: serve WHAT, for messages, FLAGS...
serve() {
	local what=$1 begun=$SECONDS
	shift
	launch "$@"
	while ((SECONDS - begun < patience)); do
		if curl -fsS -o /dev/null "http://$DATA_PLANE/health/ready" 2>/dev/null; then return; fi
		kill -0 "$host_pid" 2>/dev/null || break
		# One that failed does not come any more.
		if ask_host /v1/models 2>/dev/null | grep -q '"state":"failed"'; then break; fi
		sleep 0.1
	done
	tell "FAILED: the host is not ready with $what after $((SECONDS - begun)) s: $(ask_host /health/ready 2>&1 || true)"
	tail -5 "$results/host.log" | cut -c 1-400 | tell_lines "  "
	exit 1
}
# The models of the seed, each with so many instances, in one precision.
start() { # instances, precision, models
	local count=$1 precision=$2 model
	shift 2
	empty
	for model; do
		place "$work/made/$model" "$model" count="$count" precision="\"$precision\"" device="\"$device\""
	done
	serve "$*"
}
stop() {
	local code=0
	kill "$host_pid" || true
	wait "$host_pid" || code=$?
	((code == 0)) || tell "the host ended with $code"
	host_pid=
}

# Drives an address, tells what came of it, and notes it where it is said what it is a figure of: drive SECONDS URL KEY=VALUE...
# -- FLAGS OF THE BENCH
drive() {
	local seconds=$1 url=$2 pairs=() watch busy cpu
	shift 2
	while [ "$1" != -- ]; do pairs+=("$1") && shift; done
	python3 tests/gpu/figures.py share "$work/data/admin-token" "$seconds" >"$work/share" &
	watch=$!
	cpu=$(cpu_ticks)
	"$programs/tenon" bench "http://$DATA_PLANE$url" --clients "$clients" --duration "${seconds}s" --threads 4 \
		--json "$work/cell.json" "${@:2}" >/dev/null
	cpu=$((($(cpu_ticks) - cpu) * 1000 / $(getconf CLK_TCK)))
	wait "$watch"
	busy=$(cat "$work/share")
	python3 tests/gpu/figures.py cell "$work/cell.json" busy="$busy" cpu_ms="$cpu" "${pairs[@]}"
}
# Processor time that the host has had.
cpu_ticks() { awk '{ print $14 + $15 }' "/proc/$host_pid/stat"; }
# A request to a model again and again: load MODEL SECONDS BODY KEY=VALUE...
load() {
	drive "$2" "/v2/models/$1/infer" model="$1" "${@:4}" -- --body "$work/$3.body" \
		-H "inference-header-content-length: $(cat "$work/$3.header")" --content-type application/octet-stream
}
scrape() { curl -sS "http://$CONTROL_PLANE/metrics" -H "authorization: Bearer $(cat "$work/data/admin-token")"; }
metrics() { tell "  $(scrape | python3 tests/gpu/figures.py batches)"; }
# One of the programs beside this one that ask a host; a failure of it is told and ends nothing.
ask_all() { python3 "tests/gpu/$1.py" "${@:2}" || echo "FAILED: $1.py ended with $?"; }
check() { ask_all check "$1" "$work" "$DATA_PLANE" "${@:2}"; }
