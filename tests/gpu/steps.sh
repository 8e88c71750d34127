# shellcheck shell=bash
# The steps of tests/gpu.sh, each one thing that a GPU is to show. To be sourced, after host.sh.
# Folders, the device and how much load there is are said by tests/gpu.sh:
# shellcheck disable=SC2154

readonly SCENE=examples/detector DETECT='/v1/functions/demo/detector/detect?confidence=0.4'

step_models() {
	local what="no GPU: a dry run on the processor"
	if [ "$device" = cuda ]; then
		what=$(nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv,noheader | head -1)
	fi
	tell "$what, torch $(python3 -c 'import torch; print(torch.__version__)')"
	python3 tests/gpu/models.py "$work" | tell_lines ""
}

# The services' models, and two from the seed for those that are too large to bring, on the processor and on the GPU in one host.
step_services() {
	local folder name names=() under=$device reduced='buckets={ seq = [16, 64, 512] }'
	[ "$device" = cuda ] || under=again
	empty
	for folder in "$kit"/models/*/ "$work/made/encoder/" "$work/made/tagger/"; do
		[ -e "$folder/model.toml" ] || continue
		name=$(basename "$folder")
		names+=("$name")
		# Short batches on the processor: it is what answers are held against, and measuring it would take the time.
		place "$folder" "$name-cpu" count=1 device='"cpu"' max_batch_size=2 "$reduced"
		place "$folder" "$name-$under" count=2 device="\"$device\"" "$reduced"
	done
	[ -d "$kit/models" ] || tell "LEFT OUT: the services' trained models, which are not in $kit"
	serve "each model twice"
	ask_all services "$work" "$DATA_PLANE" "$under" "${names[@]}" | tell_lines ""
	stop
}

# Begun by tests/gpu.sh, beside the steps before it, because compiling takes long and disturbs only what is measured.
compiling=()
compile_packages() {
	local model
	for model in conv encoder; do
		TORCHINDUCTOR_CACHE_DIR=$work/inductor TRITON_CACHE_DIR=$work/triton timeout -k 3 "$compile_seconds" \
			python3 tests/gpu/packages.py "$work" "$model" "$device" >"$results/aoti-$model.log" 2>&1 &
		compiling+=($!)
		echo $! >"$work/aoti-$model.pid"
	done
}
# Packages of AOTInductor beside TorchScript: answers, and load in turns.
step_aoti() {
	local model round compiled=() reduced='buckets={ seq = [64, 256, 512] }'
	empty
	for model in conv encoder; do
		while kill -0 "$(cat "$work/aoti-$model.pid")" 2>/dev/null; do sleep 0.5; done
		tell "$(cat "$work/aoti-$model" 2>/dev/null || echo "LEFT OUT: $model was not compiled within $compile_seconds s")"
		[ -e "$work/made/$model-aoti/1/model.pt2" ] || continue
		compiled+=("$model")
		place "$work/made/$model" "$model" count=2 device="\"$device\"" "$reduced"
		place "$work/made/$model-aoti" "$model-aoti" count=2 device="\"$device\"" "$reduced"
	done
	((${#compiled[@]})) || return 0
	serve "packages of AOTInductor"
	tell "$(check answers "$(IFS=, && echo "${compiled[*]}")" fp32 -aoti)"
	for model in "${compiled[@]}"; do load "$model" 1 "$model" >/dev/null && load "$model-aoti" 1 "$model" >/dev/null; done
	for ((round = 1; round <= rounds; round++)); do
		for model in "${compiled[@]}"; do
			tell "round $round, $model, TorchScript: $(load "$model" 2 "$model" step=aoti round="$round")"
			tell "round $round, $model, AOTInductor: $(load "$model-aoti" 2 "$model" step=aoti round="$round")"
		done
	done
	metrics
	stop
}

# A picture in, objects out, through guests: with their tensors written into pinned memory, and without, in turns.
step_functions() {
	local round pinned settings=(default 0) found
	if [ ! -d "$kit/functions" ] || [ ! -d "$kit/models/detector" ]; then
		tell "LEFT OUT: functions; the detector is not in $kit"
		return
	fi
	if ! TENON_ENGINE__PINNED_BYTES=0 LD_LIBRARY_PATH="$libraries" "$programs/tenon-host" --check \
		--models "$kit/models" --data "$work/data" >/dev/null 2>&1; then
		tell "LEFT OUT: functions without pinned memory; this host does not know engine.pinned_bytes"
		settings=(default)
	fi
	empty
	place "$kit/models/detector" detector count=4 device="\"$device\"" max_queue_size=4096 queue_timeout_ms=20000
	rm -rf "$work/functions"
	cp -r "$kit/functions" "$work/functions"
	# Without its cache: it would answer the same picture from memory, and no model would be asked.
	sed -i '/^\[cache\]/,/^$/d' "$work/functions/demo/detector/function.toml"
	for ((round = 1; round <= rounds; round++)); do
		for pinned in "${settings[@]}"; do
			if [ "$pinned" = default ]; then unset TENON_ENGINE__PINNED_BYTES; else export TENON_ENGINE__PINNED_BYTES=$pinned; fi
			serve "the detector" --dev-functions "$work/functions"
			pictures 1 >/dev/null
			found=$(pictures 3 step=functions round="$round" pinned="$pinned")
			tell "round $round, the detector function, engine.pinned_bytes $pinned: $found"
			tell "  $(ask_all pictures "http://$DATA_PLANE$DETECT" "$SCENE/scene.jpg" "$SCENE/answer.json")"
			stop
		done
	done
	unset TENON_ENGINE__PINNED_BYTES
}
pictures() { # seconds, KEY=VALUE...
	drive "$1" "$DETECT" "${@:2}" -- --body "$SCENE/scene.jpg" --content-type image/jpeg
}

step_overlap() {
	on_gpu overlap || return 0
	ask_all overlap "$work" | tell_lines "copies and computing, "
}

# One stream behind a lock, then instances of the host; in one step, so that it is the same machine in the same minute.
step_instances() {
	local count model told watch seen
	for model in conv encoder; do
		told=$(python3 tests/gpu/check.py baseline "$work" "$model" "$device" || echo FAILED)
		tell "$model, the baseline (one stream, pageable copies, one at a time): $told"
	done
	for count in "${counts[@]}"; do
		start "$count" fp32 conv encoder
		for model in conv encoder; do
			load "$model" 1 "$model" >/dev/null
			if [ "$device" = cuda ]; then
				nvidia-smi --query-gpu=utilization.gpu --format=csv,noheader,nounits -lms 250 >"$work/busy" &
				watch=$!
			fi
			told=$(load "$model" "$long" "$model" step=instances instances="$count")
			seen=
			if [ "$device" = cuda ]; then
				kill "$watch"
				seen=", $(sort -n "$work/busy" | awk '{ v[NR] = $1 } END { print v[int(NR / 2) + 1] }') % by nvidia-smi (median)"
			fi
			tell "$model, $count instances, $clients clients: $told$seen"
		done
		metrics
		stop
	done
}

step_answers() {
	start 4 fp32 conv encoder
	tell "listed: $(ask_host /v1/models | python3 tests/gpu/figures.py listed)"
	tell "$(check answers)"
	stop
}

# What the host tells of the GPU, idle and under load, beside nvidia-smi.
step_figures() {
	on_gpu figures || return 0
	start 4 fp32 encoder
	sleep 1
	tell "idle: $(scrape | python3 tests/gpu/figures.py device)"
	load encoder 1 encoder >/dev/null
	load encoder 5 encoder step=figures >"$work/told" &
	local loading=$!
	sleep 3
	tell "under load: $(scrape | python3 tests/gpu/figures.py device); nvidia-smi: $(nvidia-smi \
		--query-gpu=utilization.gpu,temperature.gpu,power.draw,pci.bus_id --format=csv,noheader | head -1)"
	wait "$loading"
	tell "  $(cat "$work/told")"
	local begun=$EPOCHREALTIME
	scrape >/dev/null
	tell "  a look at the metrics takes $(awk "BEGIN { printf \"%.1f\", ($EPOCHREALTIME - $begun) * 1000 }") ms"
	stop
}

step_pressure() {
	on_gpu pressure || return 0
	start 4 fp32 conv encoder
	tell "$(ask_all trouble pressure "$work" "$DATA_PLANE")"
	metrics
	tell "$(check answers)"
	tell "resident after all: $(grep VmRSS "/proc/$host_pid/status" | tr -s '\t ' ' ')"
	stop
}

step_lost() {
	on_gpu lost || return 0
	start 2 fp32 conv table
	tell "a device-side assert: $(ask_all trouble lost "$work" "$DATA_PLANE")"
	local code=0 begun=$SECONDS
	while kill -0 "$host_pid" 2>/dev/null && ((SECONDS - begun < 20)); do sleep 0.2; done
	if kill -9 "$host_pid" 2>/dev/null; then tell "  FAILED: the host was still there and was killed"; fi
	wait "$host_pid" || code=$?
	tell "  the host ended with $code (expected 1) $((SECONDS - begun)) s after that"
	host_pid=
	tail -4 "$results/host.log" | sed 's/\x1b\[[0-9;]*m//g' | cut -c 1-240 | tell_lines "  | "
	start 2 fp32 conv table
	tell "  started anew: $(check table)"
	stop
}

# All precisions of a model side by side in one host, and load on one after the other, three times around: what the machine
# does meanwhile is every precision's.
step_precision() {
	on_gpu precision || return 0
	local model precision round seconds told
	empty
	for model in encoder conv; do
		for precision in fp32 tf32 bf16 fp16; do
			place "$work/made/$model" "$model-$precision" count=2 device="\"$device\"" \
				precision="\"$precision\"\ntolerance = 0.5" 'buckets={ seq = [64, 256, 512] }'
		done
	done
	serve "every precision"
	# What loading said of each, and what callers see.
	{ grep 'held against fp32' "$results/host.log" || echo FAILED: nothing; } \
		| sed 's/\x1b\[[0-9;]*m//g; s/.*models\/\([^/]*\)[^ ]*/  \1/' | sort -u | tell_lines "  at load: "
	check precisions | tell_lines ""
	for model in encoder conv; do
		for precision in fp32 tf32 bf16 fp16; do load "$model-$precision" 1 "$model" >/dev/null; done
	done
	for ((round = 1; round <= rounds; round++)); do
		for model in encoder conv; do
			[ "$model" = encoder ] && seconds=2 || seconds=1
			for precision in fp32 tf32 bf16 fp16; do
				told=$(load "$model-$precision" "$seconds" "$model" step=precision round="$round")
				tell "round $round, $model, $precision, 2 instances: $told"
			done
		done
	done
	metrics
	stop
}
