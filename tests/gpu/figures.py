"""How tests/gpu.sh tells figures: what programs say, in a line. Does not load torch, which takes seconds."""

import json
import pathlib
import sys


def batches(text):
    sums = {}
    for line in text.splitlines():
        for name in ("tenon_batch_rows_sum", "tenon_batch_rows_count", "tenon_batch_splits_total"):
            if line.startswith(name + "{"):
                model = line.split('model="')[1].split('"')[0]
                sums[model, name] = sums.get((model, name), 0) + float(line.split()[-1])
    told = []
    for model in sorted({model for model, _ in sums}):
        count = sums.get((model, "tenon_batch_rows_count"), 0)
        mean = sums.get((model, "tenon_batch_rows_sum"), 0) / max(count, 1)
        splits = sums.get((model, "tenon_batch_splits_total"), 0)
        told.append(f"{model}: {count:.0f} batches of {mean:.1f} rows" + (f", {splits:.0f} splits" if splits else ""))
    return ", ".join(told)


def device(text):
    lines = [line for line in text.splitlines() if line.startswith("tenon_device_") and 'device="cuda' in line]
    short = ("utilization_ratio", "temperature_celsius", "power_watts", "busy_seconds_total")
    named = [f"{name} {line.split()[-1]}" for name in short for line in lines if line.startswith(f"tenon_device_{name}")]
    return ", ".join(named) or "FAILED: nothing is told"


def busy(text):
    return next((line.split()[-1] for line in text.splitlines() if line.startswith("tenon_device_busy")), "nothing")


def listed(text):
    return ", ".join(
        f"{model['name']} {model['state']} on {model['device']} with {model['instances']}, safe batch "
        f"{model['safe_batch_size']}" for model in json.loads(text)["models"]
    )


def cell(file):
    cell = json.loads(pathlib.Path(file).read_text())["cells"][0]
    latency = cell["latency_ms"] or {}
    told = f"{cell['requests_per_second']:.0f} rows/s, p50 {latency.get('p50', 0):.1f} ms, p99 {latency.get('p99', 0):.1f} ms"
    return told + (f", {cell['errors']} ERRORS {cell['statuses']}" if cell["errors"] else "")


if __name__ == "__main__":
    what, rest = sys.argv[1], sys.argv[2:]
    told = {"batches": batches, "busy": busy, "device": device, "listed": listed}
    print(cell(*rest) if what == "cell" else told[what](sys.stdin.read()))
