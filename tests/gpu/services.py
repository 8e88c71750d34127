"""Asks models that a host holds twice, on the processor and on the device that is tested, the same made-up rows, and tells by
how much answers differ. Needs torch alone.

    services.py WORK ADDRESS SUFFIX MODEL...

The processor's are MODEL-cpu, the others MODEL-SUFFIX. Inputs are made from what the host tells of a model and from the ranges
in its model.toml, so that any model can be looked at."""

import concurrent.futures
import pathlib
import sys
import tomllib

import torch

sys.path.insert(0, str(pathlib.Path(__file__).parent))
from asking import KINDS, ask, difference, get  # noqa: E402
from figures import note  # noqa: E402

# Of the largest output: how nets for pictures may differ, whose sums are long, and how models of texts may.
TOLERANCE = {"pictures": 1e-3, "texts": 1e-4}
EXAMPLES, CALLERS, ROUNDS = 12, 16, 4


def example(inputs, ranges, number):
    """One row, as long in every ragged dimension as its number says, the same for all inputs."""
    length = [3, 17, 64, 5, 130, 33, 200, 8, 300, 1, 90, 48][number % 12]
    tensors = []
    for spec in inputs:
        shape = [1] + [length if extent < 0 else extent for extent in spec["shape"][1:]]
        if spec["datatype"].startswith("FP"):
            tensors.append(torch.rand(shape, dtype=KINDS[spec["datatype"]]) * 2 - 1)
        else:
            least, most = ranges.get(spec["name"], (0, 1))
            made = torch.randint(least, most + 1, shape, dtype=KINDS[spec["datatype"]])
            # A mask that shows nothing would make an answer of what rows are padded with.
            made[:, 0] = most
            tensors.append(made)
    return tensors


class Worst:
    """By how much the outputs of one model differ at most."""

    def __init__(self):
        self.absolute = self.largest = self.channel = 0.0
        self.whole, self.others, self.values = False, 0, 0

    def add(self, answer, right):
        off = difference(answer, right)
        self.absolute = max(self.absolute, float(off.max()))
        self.largest = max(self.largest, float(right.abs().max()))
        if not right.dtype.is_floating_point:
            self.whole = True
            self.others += int((off > 0).sum())
            self.values += off.numel()
        elif right.dim() == 3:
            # Boxes in pixels and probabilities in one output: each channel by its own largest value.
            of = right.abs().amax(dim=(0, 2)).clamp(min=1e-6)
            self.channel = max(self.channel, float((off.amax(dim=(0, 2)) / of).max()))

    def told(self, tolerance):
        if self.whole:
            # A value at the border of two whole numbers is rounded to either.
            held = self.absolute <= 1
            figure = f"differs by at most {self.absolute:.0f} in {self.others} of {self.values} whole numbers"
            return held, f"{figure} ({'within' if held else 'FAILED, over'} 1)"
        part = self.absolute / max(self.largest, 1e-9)
        held = part <= tolerance
        figure = f"differs by at most {self.absolute:.2g}, {part:.2g} of the largest output ({self.largest:.3g})"
        channel = f", {self.channel:.2g} of its channel's" if self.channel else ""
        return held, f"{figure}{channel} ({'within' if held else 'FAILED, over'} {tolerance})"


def compare(work, address, suffix, model):
    signature = get(address, f"/v2/models/{model}-cpu")
    inputs = signature["inputs"]
    toml = tomllib.loads(pathlib.Path(f"{work}/models/{model}-cpu/model.toml").read_text())
    ranges = {spec["name"]: spec["range"] for spec in toml["input"] if "range" in spec}
    names = [spec["name"] for spec in inputs]
    kind = "pictures" if any(spec["datatype"].startswith("FP") for spec in inputs) else "texts"
    torch.manual_seed(7)
    examples = [example(inputs, ranges, number) for number in range(EXAMPLES)]
    right = [ask(address, f"{model}-cpu", names, one) for one in examples]
    told = []
    for how, callers, rounds in (("alone", 1, 1), (f"with {CALLERS} callers", CALLERS, ROUNDS)):
        with concurrent.futures.ThreadPoolExecutor(callers) as pool:
            got = list(pool.map(lambda one: ask(address, f"{model}-{suffix}", names, one), examples * rounds))
        bad = [answer for answer in right + got if answer[0] != 200]
        if bad:
            note(step="services", model=model, how=how, held=False)
            return f"FAILED: {model} {how}: {len(bad)} of {len(got)} refused, such as {bad[0]}"
        worst = Worst()
        for (_, answers), (_, expected) in zip(got, right * rounds):
            for answer, want in zip(answers, expected):
                worst.add(answer, want)
        within, words = worst.told(TOLERANCE[kind])
        told.append(f"{how} {words}")
        note(step="services", model=model, how=how, largest=worst.absolute, of=worst.largest, held=within)
    return f"{model}: " + "; ".join(told)


if __name__ == "__main__":
    work, address, suffix, *models = sys.argv[1:]
    for model in models:
        print(compare(work, address, suffix, model), flush=True)
