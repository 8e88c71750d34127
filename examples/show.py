"""Shows an answer as people read it, or holds it against a kept one.

`show.py ANSWER` prints JSON with long lists and texts cut; `show.py ANSWER --same-as KEPT` compares the two: everything is
to be equal, numbers with a fraction and large ones nearly. Models add in another order on another processor.
"""

import argparse
import json
import sys

ITEMS, CHARACTERS, WIDTH = 4, 160, 100
TOLERANCE = 0.02  # of the larger number, or of 1
EXACT = 100  # up to this whole numbers are to be equal; larger ones are counts of pixels and the like
# Another for each request.
PASSED_OVER = {"id", "request_id"}


def cut(value):
    if isinstance(value, dict):
        return {name: cut(member) for name, member in value.items()}
    if isinstance(value, list):
        short = [cut(item) for item in value[:ITEMS]]
        return short + [f"… {len(value) - ITEMS} more"] if len(value) > ITEMS else short
    if isinstance(value, str) and len(value) > CHARACTERS:
        return value[:CHARACTERS] + "…"
    return round(value, 4) if isinstance(value, float) else value


def lines(value, indent="  "):
    """Like json.dumps with an indent, but what fits in a line stays there."""
    flat = json.dumps(value, ensure_ascii=False)
    if len(flat) + len(indent) <= WIDTH or not isinstance(value, (dict, list)) or not value:
        return flat
    inner = indent + "  "
    if isinstance(value, dict):
        parts = [f"{json.dumps(name, ensure_ascii=False)}: {lines(member, inner)}" for name, member in value.items()]
        return "{\n" + ",\n".join(inner + part for part in parts) + "\n" + indent + "}"
    return "[\n" + ",\n".join(inner + lines(item, inner) for item in value) + "\n" + indent + "]"


def difference(answer, kept, place="the answer"):
    """What differs first, in words; none if nothing does."""
    if isinstance(answer, bool) or isinstance(kept, bool) or not isinstance(answer, type(kept)):
        both = isinstance(answer, (int, float)) and isinstance(kept, (int, float))
        if not both or isinstance(answer, bool) is not isinstance(kept, bool):
            return None if answer == kept and type(answer) is type(kept) else f"{place} is {answer!r}, was {kept!r}"
    if isinstance(answer, dict):
        if answer.keys() != kept.keys():
            return f"{place} has {sorted(answer)}, had {sorted(kept)}"
        pairs = [(f"{place}.{name}", answer[name], kept[name]) for name in answer if name not in PASSED_OVER]
    elif isinstance(answer, list):
        if len(answer) != len(kept):
            return f"{place} has {len(answer)} items, had {len(kept)}"
        pairs = [(f"{place}[{index}]", *both) for index, both in enumerate(zip(answer, kept))]
    elif isinstance(answer, float) or isinstance(kept, float) or (isinstance(answer, int) and min(answer, kept) > EXACT):
        near = abs(answer - kept) <= TOLERANCE * max(abs(answer), abs(kept), 1)
        return None if near else f"{place} is {answer}, was {kept}"
    else:
        return None if answer == kept else f"{place} is {answer!r}, was {kept!r}"
    return next((found for where, *both in pairs if (found := difference(*both, where))), None)


def read(path):
    try:
        with open(path, encoding="utf-8") as file:
            return json.load(file)
    except (OSError, ValueError) as error:
        sys.exit(f"error: {path}: {error}")


def main():
    parser = argparse.ArgumentParser(description="Show an answer, or hold it against a kept one.")
    parser.add_argument("answer")
    parser.add_argument("--same-as", metavar="KEPT")
    arguments = parser.parse_args()
    answer = read(arguments.answer)
    if arguments.same_as is None:
        print("  " + lines(cut(answer)))
        return
    found = difference(answer, read(arguments.same_as))
    if found:
        sys.exit(f"error: {found}")
    print(f"  as in {arguments.same_as}")


main()
