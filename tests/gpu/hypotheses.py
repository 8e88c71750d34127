"""What tests/gpu.sh was to find out, against what it measured: reads figures.jsonl. Whatever was not measured is said to be
missing. Does not load torch."""

import json
import pathlib
import sys


def rate(notes, model, instances):
    """Rows in a second of a model with so many instances."""
    return last(notes, "requests_per_second", step="instances", model=model, instances=instances)


def figures(notes, name, **what):
    return [one[name] for one in notes if name in one and all(one.get(key) == value for key, value in what.items())]


def last(notes, name, **what):
    found = figures(notes, name, **what)
    return found[-1] if found else None


def median(notes, **what):
    """Of rounds, the rate."""
    found = sorted(figures(notes, "requests_per_second", **what))
    return found[len(found) // 2] if found else None


def line(words, value, goal, unit):
    """One hypothesis: at least so much."""
    if value is None:
        return f"{words}: missing"
    return f"{words}: {value:.{1 if unit == ' %' else 2}f}{unit}: {'held' if value >= goal else 'NOT held'}"


def over(one, other):
    return one / other if one and other else None


def speed(notes):
    for model in ("conv", "encoder"):
        for instances in (1, 2, 4, 8):
            busy = last(notes, "busy", step="instances", model=model, instances=instances)
            part = None if busy is None else 100 * busy
            yield line(f"{model}, {instances} instances under 64 clients, is busy >= 90 %", part, 90, " %")
    yield line("conv, 4 instances >= 2.5x one", over(rate(notes, "conv", 4), rate(notes, "conv", 1)), 2.5, "x")
    for model in ("conv", "encoder"):
        plain = last(notes, "requests_per_second", step="baseline", model=model)
        yield line(f"{model}, 4 instances >= 3x the baseline", over(rate(notes, model, 4), plain), 3, "x")
    for model in ("conv", "encoder"):
        gained = over(median(notes, step="aoti", model=f"{model}-aoti"), median(notes, step="aoti", model=model))
        yield line(f"{model}, a package of AOTInductor >= 1x TorchScript", gained, 1, "x")
    gained = over(median(notes, step="functions", pinned="default"), median(notes, step="functions", pinned=0))
    yield line("detector function, tensors in pinned memory >= 1x without", gained, 1, "x")


def shown(notes):
    """What is either so or not."""
    for step, words in (("services", "of the services' models answer as the processor"),
                        ("answers", "of conv and encoder answer as the processor, in every precision and format")):
        held = {}
        for one in notes:
            if one.get("step") == step:
                held[one["model"]] = held.get(one["model"], True) and one["held"]
        wrong = [model for model, is_held in held.items() if not is_held]
        told = f"{len(held) - len(wrong)} of {len(held)}: {'NOT held: ' + ', '.join(wrong) if wrong else 'held'}"
        yield f"all {words}: {told if held else 'missing'}"
    beside = last(notes, "gained", step="overlap", memory="pinned")
    yield line("copies from pinned memory beside computing, >= 1.2x as fast as one after the other", beside, 1.2, "x")
    wrong, answered = last(notes, "wrong", step="pressure"), last(notes, "answered_afterwards", step="pressure")
    if wrong is None:
        yield "memory that ran out was survived: missing"
    else:
        held = "held" if wrong == 0 and answered else "NOT held"
        yield f"memory that ran out was survived: {wrong} wrong answers, {answered} answers afterwards: {held}"


def main():
    text = pathlib.Path(sys.argv[1]).read_text(encoding="utf-8")
    notes = [json.loads(one) for one in text.splitlines()]
    for told in (*speed(notes), *shown(notes)):
        print(f"  {told}")


if __name__ == "__main__":
    main()
