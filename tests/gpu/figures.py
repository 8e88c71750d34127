"""How tests/gpu.sh tells figures: what programs say, in a line for people, and noted in figures.jsonl, a JSON object a line,
for what is computed from them at the end. Does not load torch, which takes seconds."""

import json
import os
import pathlib
import sys
import time
import urllib.request

METRICS = "http://127.0.0.1:18081/metrics"


def note(**figures):
    """Written as soon as it is known: what was measured is there if the rest never comes."""
    with open(pathlib.Path(os.environ["results"]) / "figures.jsonl", "a", encoding="utf-8") as file:
        file.write(json.dumps(figures) + "\n")


def parts(pairs):
    """`step=instances busy=0.9`, numbers as such."""
    found = {}
    for pair in pairs:
        name, text = pair.split("=", 1)
        try:
            found[name] = json.loads(text)
        except ValueError:
            found[name] = text
    return found


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


def listed(text):
    return ", ".join(
        f"{model['name']} {model['state']} on {model['device']} with {model['instances']}, safe batch "
        f"{model['safe_batch_size']}" for model in json.loads(text)["models"]
    )


def busy_seconds(token):
    """By the GPU's own clock, the union of all batches; none where no GPU is told."""
    request = urllib.request.Request(METRICS, headers={"authorization": f"Bearer {token}"})
    with urllib.request.urlopen(request, timeout=10) as answer:
        text, now = answer.read().decode(), time.monotonic()
    lines = [line for line in text.splitlines() if line.startswith("tenon_device_busy_seconds_total{")]
    return (sum(float(line.split()[-1]) for line in lines) if lines else None), now


def share(token_file, seconds):
    """The part of the wall time in which a GPU had batches, in the middle half of a load that began just now."""
    token, seconds = pathlib.Path(token_file).read_text().strip(), float(seconds)
    time.sleep(0.25 * seconds)
    before, begun = busy_seconds(token)
    time.sleep(0.5 * seconds)
    after, ended = busy_seconds(token)
    return "null" if before is None or after is None else f"{(after - before) / (ended - begun):.4f}"


def cell(file, *pairs):
    """What `tenon bench` measured; noted where it is said what it is a figure of."""
    measured, more = json.loads(pathlib.Path(file).read_text())["cells"][0], parts(pairs)
    latency = measured["latency_ms"] or {}
    rate, p50, p99 = measured["requests_per_second"], latency.get("p50", 0), latency.get("p99", 0)
    if "step" in more:
        note(**more, requests_per_second=rate, p50_ms=p50, p99_ms=p99, errors=measured["errors"])
    told = f"{rate:.0f}/s, p50 {p50:.1f} ms, p99 {p99:.1f} ms"
    if more.get("busy") is not None:
        told += f", GPU busy {100 * more['busy']:.0f} % by its own clock"
    if "cpu_ms" in more:
        told += f", {more['cpu_ms'] / max(measured['requests'], 1):.2f} ms of processors each"
    return told + (f", {measured['errors']} ERRORS {measured['statuses']}" if measured["errors"] else "")


if __name__ == "__main__":
    what, rest = sys.argv[1], sys.argv[2:]
    asked, read = {"cell": cell, "share": share}, {"batches": batches, "device": device, "listed": listed}
    print(asked[what](*rest) if what in asked else read[what](sys.stdin.read()))
