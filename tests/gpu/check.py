"""What tests/gpu.sh asks of a host that runs. Needs torch alone."""

import concurrent.futures
import http.client
import json
import pathlib
import sys
import threading
import time

import torch

sys.path.insert(0, str(pathlib.Path(__file__).parent))
from models import body  # noqa: E402

# The largest difference to the processor's answers that is fine, for scores of about 1 and embeddings of length 1.
TOLERANCE = {"fp32": 1e-4, "tf32": 1e-2, "bf16": 3e-2, "fp16": 1e-2}
LOCAL = threading.local()


def ask(address, model, names, example):
    """One request; the status, and the first output."""
    packed, head = body(names, example)
    headers = {"inference-header-content-length": str(head), "content-type": "application/octet-stream"}
    for attempt in (0, 1):
        connection = getattr(LOCAL, "connection", None)
        if connection is None:
            connection = LOCAL.connection = http.client.HTTPConnection(address, timeout=60)
        try:
            connection.request("POST", f"/v2/models/{model}/infer", packed, headers)
            answer = connection.getresponse()
            data = answer.read()
            break
        except (http.client.HTTPException, OSError):
            LOCAL.connection = None
            if attempt:
                raise
    if answer.status != 200:
        return answer.status, data[:200].decode(errors="replace")
    told = int(answer.headers["inference-header-content-length"])
    shape = json.loads(data[:told])["outputs"][0]["shape"]
    return 200, torch.frombuffer(bytearray(data[told:]), dtype=torch.float32).reshape(shape)


def answers(work, address, precision="fp32", suffix=""):
    """Every example alone and with 32 others in flight, against the processor; of models whose names end so."""
    told = []
    for model in ("conv", "encoder"):
        known = torch.load(f"{work}/{model}.examples")
        worst = {}
        for how, callers, rounds in (("alone", 1, 1), ("in batches", 32, 12)):
            pairs = list(zip(known["examples"], known["answers"])) * rounds
            with concurrent.futures.ThreadPoolExecutor(callers) as pool:
                got = list(pool.map(lambda pair: ask(address, model + suffix, known["names"], pair[0]), pairs))
            bad = [answer for answer in got if answer[0] != 200]
            if bad:
                return f"FAILED: {model} {how}: {len(bad)} of {len(got)} refused, such as {bad[0]}"
            worst[how] = max(float((answer - pair[1]).abs().max()) for (_, answer), pair in zip(got, pairs))
        verdict = "within" if max(worst.values()) <= TOLERANCE[precision] else "FAILED, over"
        figures = ", ".join(f"{how} {value:.2g}" for how, value in worst.items())
        told.append(f"{model} differs from the processor by at most {figures} ({verdict} {TOLERANCE[precision]})")
    return "; ".join(told)


def baseline(work, model):
    """What a lock around a model does: the default stream, pageable copies, one row at a time."""
    module = torch.jit.load(f"{work}/made/{model}/1/model.pt", map_location="cuda").eval()
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    known = torch.load(f"{work}/{model}.examples")
    example = known["examples"][0] if model == "conv" else (
        torch.randint(0, 1000, (1, 64)), torch.ones(1, 64, dtype=torch.long))
    with torch.inference_mode():
        for warm in (True, False):
            count, begun = 0, time.perf_counter()
            while time.perf_counter() - begun < (1 if warm else 3):
                module(*[part.cuda() for part in example]).cpu()
                count += 1
    return f"{count / (time.perf_counter() - begun):.0f} rows/s"


def pressure(work, address):
    """Somebody takes all but little of the GPU's memory before rows come; then gives it back under the load."""
    known = torch.load(f"{work}/conv.examples")
    statuses, stop, wrong = {}, threading.Event(), []
    phase, lock = ["without memory"], threading.Lock()

    def caller(number):
        example = number % len(known["examples"])
        while not stop.is_set():
            status, answer = ask(address, "conv", known["names"], known["examples"][example])
            with lock:
                statuses[phase[0], status] = statuses.get((phase[0], status), 0) + 1
                if status != 200:
                    wrong.append(answer)
                elif float((answer - known["answers"][example]).abs().max()) > TOLERANCE["fp32"]:
                    wrong.append("another answer")
            if status != 200:
                time.sleep(0.05)

    held = []
    while torch.cuda.mem_get_info()[0] > 32 << 20:
        try:
            held.append(torch.empty(torch.cuda.mem_get_info()[0] - (16 << 20), dtype=torch.uint8, device="cuda"))
        except torch.OutOfMemoryError:
            break
    left = torch.cuda.mem_get_info()[0]
    threads = [threading.Thread(target=caller, args=(number,)) for number in range(48)]
    for thread in threads:
        thread.start()
    time.sleep(5)
    held.clear()
    torch.cuda.empty_cache()
    phase[0] = "afterwards"
    time.sleep(5)
    stop.set()
    for thread in threads:
        thread.join()
    told = ", ".join(f"{phase} {status}: {count}" for (phase, status), count in sorted(statuses.items()))
    return f"48 callers while all but {left >> 20} MiB of the GPU are taken: {told}; {len(wrong)} wrong {sorted(set(wrong))[:2]}"


def table(work, address):
    known = torch.load(f"{work}/table.examples")
    return f"a good id {ask(address, 'table', known['names'], known['examples'][0])[0]}"


def ready(address):
    """The status of readiness; `None` where nobody listens any more."""
    try:
        connection = http.client.HTTPConnection(address, timeout=5)
        connection.request("GET", "/health/ready")
        return connection.getresponse().status
    except (http.client.HTTPException, OSError):
        return None


def lost(work, address):
    """An id that model.toml allows and the table does not have, beside callers of another model on the same GPU."""
    known, table = torch.load(f"{work}/conv.examples"), torch.load(f"{work}/table.examples")
    statuses, wrong, phase, lock = {}, [], ["before"], threading.Lock()

    def caller(number):
        example = number % len(known["examples"])
        while phase[0] != "end":
            try:
                status, answer = ask(address, "conv", known["names"], known["examples"][example])
            except (http.client.HTTPException, OSError):
                status, answer = "no connection", None
            with lock:
                statuses[phase[0], status] = statuses.get((phase[0], status), 0) + 1
                if status == 200 and float((answer - known["answers"][example]).abs().max()) > TOLERANCE["fp32"]:
                    wrong.append("another answer")
            if status != 200:
                time.sleep(0.02)

    threads = [threading.Thread(target=caller, args=(number,)) for number in range(16)]
    for thread in threads:
        thread.start()
    time.sleep(1)
    good = ask(address, "table", table["names"], table["examples"][0])[0]
    phase[0], begun = "after", time.monotonic()
    bad = ask(address, "table", table["names"], (torch.tensor([[1, 50, 3, 4]]),))
    answered = time.monotonic() - begun
    unready = closed = None
    while closed is None and time.monotonic() - begun < 40:
        status, now = ready(address), time.monotonic() - begun
        if status != 200 and unready is None:
            unready = f"{status} after {now:.2f} s"
        closed = now if status is None else None
        time.sleep(0.02)
    phase[0] = "end"
    for thread in threads:
        thread.join()
    told = ", ".join(f"{phase} {status}: {count}" for (phase, status), count in sorted(statuses.items(), key=str))
    return (f"a good id {good}; a bad one {bad[0]} after {answered:.2f} s ({bad[1]!r:.200}); ready {unready}; nobody listens "
            f"after {closed if closed is None else round(closed, 2)} s; 16 callers of another model: {told}; {len(wrong)} wrong")


def precisions(work, address):
    """The same of models in every precision, each line as soon as it is known."""
    for precision in TOLERANCE:
        print(f"{precision}: {answers(work, address, precision, '-' + precision)}", flush=True)


if __name__ == "__main__":
    what, rest = sys.argv[1], sys.argv[2:]
    asked = {"answers": answers, "baseline": baseline, "lost": lost, "precisions": precisions, "pressure": pressure, "table": table}
    told = asked[what](*rest)
    if told is not None:
        print(told)
