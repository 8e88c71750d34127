"""What tests/gpu.sh asks of a host that runs, and the plain baseline beside it. Needs torch alone."""

import concurrent.futures
import pathlib
import sys
import time

import torch

sys.path.insert(0, str(pathlib.Path(__file__).parent))
from asking import ask, difference  # noqa: E402
from figures import note  # noqa: E402

# The largest difference to the processor's answers that is fine, for scores of about 1 and embeddings of length 1.
TOLERANCE = {"fp32": 1e-4, "tf32": 1e-2, "bf16": 3e-2, "fp16": 1e-2}


def answers(work, address, models="conv,encoder", precision="fp32", suffix=""):
    """Every example alone and with 32 others in flight, against the processor; of models whose names end so."""
    told = []
    for model in models.split(","):
        known = torch.load(f"{work}/{model}.examples")
        worst = {}
        for how, callers, rounds in (("alone", 1, 1), ("in batches", 32, 12)):
            pairs = list(zip(known["examples"], known["answers"])) * rounds
            with concurrent.futures.ThreadPoolExecutor(callers) as pool:
                got = list(pool.map(lambda pair: ask(address, model + suffix, known["names"], pair[0]), pairs))
            bad = [answer for answer in got if answer[0] != 200]
            if bad:
                note(step="answers", model=model + suffix, precision=precision, held=False)
                return f"FAILED: {model} {how}: {len(bad)} of {len(got)} refused, such as {bad[0]}"
            worst[how] = max(float(difference(answer[0], pair[1]).max()) for (_, answer), pair in zip(got, pairs))
        held = max(worst.values()) <= TOLERANCE[precision]
        note(step="answers", model=model + suffix, precision=precision, largest=max(worst.values()), held=held)
        figures = ", ".join(f"{how} {value:.2g}" for how, value in worst.items())
        verdict = "within" if held else "FAILED, over"
        told.append(f"{model + suffix} differs from the processor by at most {figures} ({verdict} {TOLERANCE[precision]})")
    return "; ".join(told)


def precisions(work, address):
    """The same of models in every precision, each line as soon as it is known."""
    for precision in TOLERANCE:
        print(f"{precision}: {answers(work, address, precision=precision, suffix='-' + precision)}", flush=True)


def baseline(work, model, device):
    """What a lock around a model does: the default stream, pageable copies, one row at a time."""
    module = torch.jit.load(f"{work}/made/{model}/1/model.pt", map_location=device).eval()
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    known = torch.load(f"{work}/{model}.examples")
    example = known["examples"][0] if model == "conv" else (
        torch.randint(0, 1000, (1, 64)), torch.ones(1, 64, dtype=torch.long))
    with torch.inference_mode():
        for warm in (True, False):
            count, begun = 0, time.perf_counter()
            while time.perf_counter() - begun < (1 if warm else 3):
                module(*[part.to(device) for part in example]).cpu()
                count += 1
    rate = count / (time.perf_counter() - begun)
    note(step="baseline", model=model, requests_per_second=rate)
    return f"{rate:.0f} rows/s"


def table(work, address):
    known = torch.load(f"{work}/table.examples")
    return f"a good id {ask(address, 'table', known['names'], known['examples'][0])[0]}"


if __name__ == "__main__":
    what, rest = sys.argv[1], sys.argv[2:]
    told = {"answers": answers, "baseline": baseline, "precisions": precisions, "table": table}[what](*rest)
    if told is not None:
        print(told)
