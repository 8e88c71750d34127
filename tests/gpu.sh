#!/usr/bin/env bash
# What a GPU shows: answers equal to the processor's, throughput of 1, 2, 4 and 8 instances against one stream behind a lock,
# memory that runs out and is survived. Needs this checkout, the programs that were built from it, and a machine with an
# NVIDIA GPU whose python3 has torch 2.11.0 for CUDA; makes its own models from a fixed seed; ends within eight minutes.
#
#   tests/gpu.sh FOLDER-WITH-tenon-AND-tenon-host [FOLDER-FOR-RESULTS]
#
# Every line is also appended to results.txt as soon as it is known, so that what was measured is there if it is cut off.
set -euo pipefail
cd "$(dirname "$0")/.."
programs=$(realpath "${1:?the folder with tenon and tenon-host}")
results=${2:-.tenon/gpu}
work=$(mktemp -d)
host_pid=
trap '[ -z "$host_pid" ] || kill "$host_pid" 2>/dev/null; rm -rf "$work"' EXIT
mkdir -p "$results"
: >"$results/results.txt"
tell() { printf '%s\n' "$*" | tee -a "$results/results.txt"; }

libraries=$(python3 -c 'import os, torch; print(os.path.join(os.path.dirname(torch.__file__), "lib"))')
tell "$(nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv,noheader | head -1)," \
	"torch $(python3 -c 'import torch; print(torch.__version__)')"
python3 tests/gpu/models.py "$work" | tee -a "$results/results.txt"

# Starts the host over a repository whose models have so many instances, and waits until it is ready.
start() {
	rm -rf "$work/models"
	cp -r "$work/made" "$work/models"
	sed -i "s/^count = .*/count = $1/; s/^precision = .*/precision = \"${2:-fp32}\"/" "$work"/models/*/model.toml
	LD_LIBRARY_PATH=$libraries "$programs/tenon-host" --models "$work/models" --data "$work/data" \
		--listen 127.0.0.1:18080 --control-listen 127.0.0.1:18081 >>"$results/host.log" 2>&1 &
	host_pid=$!
	for _ in $(seq 600); do
		if curl -fsS -o /dev/null http://127.0.0.1:18080/health/ready 2>/dev/null; then return; fi
		kill -0 "$host_pid" 2>/dev/null || break
		sleep 0.2
	done
	tail -20 "$results/host.log"
	curl -sS http://127.0.0.1:18080/health/ready || true
	tell "FAILED: the host is not ready with $1 instances"
	exit 1
}
stop() {
	kill "$host_pid" && wait "$host_pid" || true
	host_pid=
}
load() { # model, clients, seconds
	"$programs/tenon" bench "http://127.0.0.1:18080/v2/models/$1/infer" --clients "$2" --duration "$3s" --threads 4 \
		--body "$work/$1.body" -H "inference-header-content-length: $(cat "$work/$1.header")" \
		--content-type application/octet-stream --json "$work/cell.json" >/dev/null
	python3 tests/gpu/check.py cell "$work/cell.json"
}

metrics() {
	tell "  $(curl -sS http://127.0.0.1:18081/metrics -H "authorization: Bearer $(cat "$work/data/admin-token")" \
		| python3 tests/gpu/check.py batches)"
}

start 4
tell "listed: $(curl -sS http://127.0.0.1:18080/v1/models | python3 tests/gpu/check.py listed)"
tell "$(python3 tests/gpu/check.py answers "$work" 127.0.0.1:18080)"
for model in conv encoder; do
	tell "$model, the baseline (one stream, pageable copies, one at a time): $(python3 tests/gpu/check.py baseline "$work" $model)"
done
stop
for count in 1 2 4 8; do
	start "$count"
	for model in conv encoder; do
		load "$model" 64 1 >/dev/null
		nvidia-smi --query-gpu=utilization.gpu --format=csv,noheader,nounits -lms 250 >"$work/busy" &
		watch=$!
		told=$(load "$model" 64 5)
		kill "$watch"
		busy=$(sort -n "$work/busy" | awk '{ v[NR] = $1 } END { print v[int(NR / 2) + 1] }')
		tell "$model, $count instances, 64 clients: $told; the GPU is busy $busy % of the time (nvidia-smi, median)"
	done
	metrics
	stop
done
for precision in tf32; do
	start 4 "$precision"
	tell "$precision: $(python3 tests/gpu/check.py answers "$work" 127.0.0.1:18080 "$precision")"
	tell "  $(for model in conv encoder; do printf '%s %s; ' $model "$(load $model 64 3)"; done)"
	stop
done
start 4
tell "$(python3 tests/gpu/check.py pressure "$work" 127.0.0.1:18080)"
metrics
tell "$(python3 tests/gpu/check.py answers "$work" 127.0.0.1:18080)"
tell "resident after all: $(grep VmRSS "/proc/$host_pid/status" | tr -s '\t ' ' ')"
stop
tell "done in $SECONDS s"
