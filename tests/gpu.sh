#!/usr/bin/env bash
# What a GPU shows: that the services' models answer as on the processor, what packages of AOTInductor and pinned memory gain,
# copies beside computing, throughput of several instances against one stream behind a lock, for how much of the time the GPU
# is busy, what reduced precision gains, memory that runs out and is survived, and that a GPU which is lost ends the host and
# not its callers.
# Needs this checkout, the programs that were built from it, and a machine with an NVIDIA GPU whose python3 has torch 2.11.0
# for CUDA; makes its own models from a fixed seed; ends within eight minutes.
#
#   make gpu-kit
#   tests/gpu.sh FOLDER [FOLDER-FOR-RESULTS [STEP...]]
#
# The first folder is that of `make gpu-kit`, or any with tenon and tenon-host. With TENON_GPU_DEVICE=cpu it is a dry run: the
# same on the processor with little load, without what shows nothing there.
#
# Every line is also appended to results.txt as soon as it is known, and figures to figures.jsonl, so that what was measured is
# there if it is cut off. A step that fails says so and does not keep the next from its turn; one for which there is no time
# any more is left out.
set -euo pipefail
cd "$(dirname "$0")/.."
source tests/gpu/host.sh
source tests/gpu/steps.sh

# By what they may take at most, in seconds; what has been measured before comes last.
STEPS=(services:100 aoti:150 functions:110 overlap:40 instances:110 figures:40 answers:40 pressure:50 lost:60 precision:110)
ALL_SECONDS=460

# One step, as a process of its own: so it can be ended, with all that it started.
if [ "${1:-}" = --step ]; then
	read -ra counts <<<"$instance_counts"
	trap '[ -z "$host_pid" ] || kill -9 "$host_pid" 2>/dev/null || true' EXIT
	"step_$2"
	exit
fi

kit=$(realpath "${1:?the folder of \`make gpu-kit\`, or one with tenon and tenon-host}")
mkdir -p "${2:-.tenon/gpu}"
results=$(realpath "${2:-.tenon/gpu}")
work=$(mktemp -d)
trap 'kill "${compiling[@]}" 2>/dev/null || true; rm -rf "$work"' EXIT
device=${TENON_GPU_DEVICE:-cuda}
# A host takes every variable of that name for one of its own.
unset TENON_GPU_DEVICE
case $device in
	cuda)
		clients=64 rounds=3 instance_counts="1 4 2 8" long=4 patience=90 compile_seconds=120
		libraries=$(python3 -c 'import importlib.util as u, pathlib; print(pathlib.Path(u.find_spec("torch").origin).parent / "lib")')
		;;
	cpu)
		# Slower by far: less load, more time.
		clients=8 rounds=1 instance_counts="1 2" long=1 patience=300 compile_seconds=400 libraries=
		STEPS=("${STEPS[@]/%/0}")
		ALL_SECONDS=1500
		;;
	*) echo "error: TENON_GPU_DEVICE is cuda or cpu" >&2 && exit 2 ;;
esac
programs=$kit
if [ -e "$kit/tenon-host.gz" ]; then
	programs=$work/programs
	mkdir "$programs"
	for name in tenon tenon-host; do gzip -dc "$kit/$name.gz" >"$programs/$name" && chmod +x "$programs/$name"; done
fi
export kit programs results work device libraries clients rounds instance_counts long patience compile_seconds
for file in results.txt figures.jsonl host.log; do : >"$results/$file"; done

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
wanted=" ${*:3} "
is_wanted() { [ "$wanted" = "  " ] || [[ $wanted == *" $1 "* ]]; }
run_step models "$patience"
if is_wanted aoti; then compile_packages; fi
for step in "${STEPS[@]}"; do
	if is_wanted "${step%:*}"; then run_step "${step%:*}" "${step#*:}"; fi
done
tell "what was to be found out:"
python3 tests/gpu/hypotheses.py "$results/figures.jsonl" | tell_lines "  "
tell "done in $SECONDS s; $(grep -c FAILED "$results/results.txt" || true) lines say FAILED"
