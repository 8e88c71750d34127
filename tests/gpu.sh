#!/usr/bin/env bash
# What a GPU shows: that one which is lost ends the host and not its callers, answers equal to the processor's, what reduced
# precision gains, throughput of several instances against one stream behind a lock, memory that runs out and is survived.
# Needs this checkout, the programs that were built from it, and a machine with an NVIDIA GPU whose python3 has torch 2.11.0
# for CUDA; makes its own models from a fixed seed; ends within six minutes.
#
#   tests/gpu.sh FOLDER-WITH-tenon-AND-tenon-host [FOLDER-FOR-RESULTS [STEP...]]
#
# Every line is also appended to results.txt as soon as it is known, so that what was measured is there if it is cut off. A
# step that fails says so and does not keep the next from its turn; one for which there is no time any more is left out.
set -euo pipefail
cd "$(dirname "$0")/.."

# By what they may take at most, in seconds; what has been measured before comes last.
STEPS=(lost:60 precision:130 figures:40 answers:60 pressure:50 instances:100)
ALL_SECONDS=340

tell() { printf '%s\n' "$*" | tee -a "$results/results.txt"; }

# Starts the host over these models, each with so many instances, and waits until it is ready.
start() { # instances, precision, models
	local count=$1 precision=$2 model
	shift 2
	rm -rf "$work/models"
	mkdir "$work/models"
	for model in "$@"; do cp -r "$work/made/$model" "$work/models/"; done
	sed -i "s/^count = .*/count = $count/; s/^precision = .*/precision = \"$precision\"/" "$work"/models/*/model.toml
	serve "$@"
}
launch() {
	LD_LIBRARY_PATH=$libraries "$programs/tenon-host" --models "$work/models" --data "$work/data" \
		--listen 127.0.0.1:18080 --control-listen 127.0.0.1:18081 >>"$results/host.log" 2>&1 &
	host_pid=$!
}
# Starts the host over what lies in the repository, and waits until it is ready.
serve() { # models, for messages
	launch
	local begun=$SECONDS
	while ((SECONDS - begun < 60)); do
		if curl -fsS -o /dev/null http://127.0.0.1:18080/health/ready 2>/dev/null; then return; fi
		kill -0 "$host_pid" 2>/dev/null || break
		sleep 0.1
	done
	tell "FAILED: the host is not ready with $*: $(curl -sS http://127.0.0.1:18080/health/ready 2>&1 || true)"
	tail -5 "$results/host.log" | cut -c 1-400 | while read -r line; do tell "  $line"; done
	exit 1
}
stop() {
	kill "$host_pid" && wait "$host_pid" || tell "the host ended with $?"
	host_pid=
}
load() { # model, clients, seconds, body
	local body=${4:-$1}
	"$programs/tenon" bench "http://127.0.0.1:18080/v2/models/$1/infer" --clients "$2" --duration "$3s" --threads 4 \
		--body "$work/$body.body" -H "inference-header-content-length: $(cat "$work/$body.header")" \
		--content-type application/octet-stream --json "$work/cell.json" >/dev/null
	python3 tests/gpu/figures.py cell "$work/cell.json"
}
scrape() { curl -sS http://127.0.0.1:18081/metrics -H "authorization: Bearer $(cat "$work/data/admin-token")"; }
metrics() { tell "  $(scrape | python3 tests/gpu/figures.py batches)"; }
check() { python3 tests/gpu/check.py "$1" "$work" 127.0.0.1:18080 "${@:2}" || echo "FAILED: check.py $1 ended with $?"; }

step_models() {
	tell "$(nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv,noheader | head -1)," \
		"torch $(python3 -c 'import torch; print(torch.__version__)')"
	python3 tests/gpu/models.py "$work" | tee -a "$results/results.txt"
}

step_lost() {
	start 2 fp32 conv table
	tell "a device-side assert: $(check lost)"
	local code=0 begun=$SECONDS
	while kill -0 "$host_pid" 2>/dev/null && ((SECONDS - begun < 20)); do sleep 0.2; done
	if kill -9 "$host_pid" 2>/dev/null; then tell "  FAILED: the host was still there and was killed"; fi
	wait "$host_pid" || code=$?
	tell "  the host ended with $code (expected 1) $((SECONDS - begun)) s after that"
	host_pid=
	tail -4 "$results/host.log" | sed 's/\x1b\[[0-9;]*m//g' | cut -c 1-240 | while read -r line; do tell "  | $line"; done
	start 2 fp32 conv table
	tell "  started anew: $(check table)"
	stop
}

# All precisions of a model side by side in one host, and load on one after the other, three times around: what the machine
# does meanwhile is every precision's.
step_precision() {
	rm -rf "$work/models"
	mkdir "$work/models"
	local model precision round seconds
	for model in encoder conv; do
		for precision in fp32 tf32 bf16 fp16; do
			cp -r "$work/made/$model" "$work/models/$model-$precision"
			sed -i "s/^count = .*/count = 2/; s/^precision = .*/precision = \"$precision\"\ntolerance = 0.5/; s/^buckets = .*/buckets = { seq = [64, 256, 512] }/" \
				"$work/models/$model-$precision/model.toml"
		done
	done
	serve every precision
	# What loading said of each, and what callers see.
	{ grep 'held against fp32' "$results/host.log" || echo FAILED: nothing; } | sed 's/\x1b\[[0-9;]*m//g; s/.*models\/\([^/]*\)[^ ]*/  \1/' | sort -u \
		| while read -r line; do tell "  at load: $line"; done
	check precisions | while read -r line; do tell "$line"; done
	for model in encoder conv; do
		for precision in fp32 tf32 bf16 fp16; do load "$model-$precision" 64 1 "$model" >/dev/null; done
	done
	for round in 1 2 3; do
		for model in encoder conv; do
			[ "$model" = encoder ] && seconds=2 || seconds=1
			for precision in fp32 tf32 bf16 fp16; do
				tell "round $round, $model, $precision, 2 instances, 64 clients: $(load "$model-$precision" 64 "$seconds" "$model")"
			done
		done
	done
	metrics
	stop
}

# What the host tells of the GPU, idle and under load, beside nvidia-smi.
step_figures() {
	start 2 fp32 encoder
	sleep 1
	tell "idle: $(scrape | python3 tests/gpu/figures.py device)"
	load encoder 64 1 >/dev/null
	local before after
	before=$(scrape | python3 tests/gpu/figures.py busy)
	load encoder 64 5 >"$work/told" &
	local loading=$!
	sleep 3
	tell "under load: $(scrape | python3 tests/gpu/figures.py device); nvidia-smi: $(nvidia-smi \
		--query-gpu=utilization.gpu,temperature.gpu,power.draw,pci.bus_id --format=csv,noheader | head -1)"
	wait "$loading"
	after=$(scrape | python3 tests/gpu/figures.py busy)
	tell "  $(cat "$work/told"); $after - $before s with batches, by the GPU's clock, of 5 s of load"
	local begun=$EPOCHREALTIME
	scrape >/dev/null
	tell "  a look at the metrics takes $(awk "BEGIN { printf \"%.1f\", ($EPOCHREALTIME - $begun) * 1000 }") ms"
	stop
}

step_answers() {
	start 4 fp32 conv encoder
	tell "listed: $(curl -sS http://127.0.0.1:18080/v1/models | python3 tests/gpu/figures.py listed)"
	tell "$(check answers)"
	for model in conv encoder; do
		tell "$model, the baseline (one stream, pageable copies, one at a time): $(python3 tests/gpu/check.py baseline "$work" "$model" || echo FAILED)"
	done
	stop
}

step_instances() {
	local count model told watch busy
	for count in 1 4 2 8; do
		start "$count" fp32 conv encoder
		for model in conv encoder; do
			load "$model" 64 1 >/dev/null
			nvidia-smi --query-gpu=utilization.gpu --format=csv,noheader,nounits -lms 250 >"$work/busy" &
			watch=$!
			told=$(load "$model" 64 4)
			kill "$watch"
			busy=$(sort -n "$work/busy" | awk '{ v[NR] = $1 } END { print v[int(NR / 2) + 1] }')
			tell "$model, $count instances, 64 clients: $told; the GPU is busy $busy % of the time (nvidia-smi, median)"
		done
		metrics
		stop
	done
}

step_pressure() {
	start 4 fp32 conv encoder
	tell "$(check pressure)"
	metrics
	tell "$(check answers)"
	tell "resident after all: $(grep VmRSS "/proc/$host_pid/status" | tr -s '\t ' ' ')"
	stop
}

# One step, as a process of its own: so it can be ended, with all that it started.
if [ "${1:-}" = --step ]; then
	host_pid=
	trap '[ -z "$host_pid" ] || kill -9 "$host_pid" 2>/dev/null || true' EXIT
	"step_$2"
	exit
fi

programs=$(realpath "${1:?the folder with tenon and tenon-host}")
mkdir -p "${2:-.tenon/gpu}"
results=$(realpath "${2:-.tenon/gpu}")
work=$(mktemp -d)
libraries=$(python3 -c 'import os, importlib.util as u; print(os.path.join(os.path.dirname(u.find_spec("torch").origin), "lib"))')
export programs results work libraries
trap 'rm -rf "$work"' EXIT
: >"$results/results.txt"
: >"$results/host.log"

run_step() { # name, seconds
	local left=$((ALL_SECONDS - SECONDS)) code=0 begun=$SECONDS
	if ((left < 15)); then
		tell "LEFT OUT: $1, there is no time any more"
		return
	fi
	timeout -k 3 "$((left < $2 ? left : $2))" bash tests/gpu.sh --step "$1" || code=$?
	((code == 0)) || tell "FAILED: the step $1 ended with $code (124: it took too long)"
	tell "--- $1: $((SECONDS - begun)) s"
}
run_step models 60
wanted=" ${*:3} "
for step in "${STEPS[@]}"; do
	if [ "$wanted" = "  " ] || [[ $wanted == *" ${step%:*} "* ]]; then run_step "${step%:*}" "${step#*:}"; fi
done
tell "done in $SECONDS s"
