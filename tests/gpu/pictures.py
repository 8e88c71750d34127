"""Asks a detector function for one picture, alone and with many callers, and holds each answer against a kept one. Does not
load torch.

    pictures.py URL PICTURE KEPT"""

import concurrent.futures
import json
import pathlib
import sys
import urllib.request

CALLERS, REQUESTS = 16, 64
# Of the larger number, or of 1: other processors add in another order.
TOLERANCE = 0.01


def near(answer, kept):
    if isinstance(kept, dict):
        return isinstance(answer, dict) and answer.keys() == kept.keys() and all(near(answer[name], kept[name]) for name in kept)
    if isinstance(kept, list):
        return isinstance(answer, list) and len(answer) == len(kept) and all(map(near, answer, kept))
    if isinstance(kept, float):
        return isinstance(answer, (int, float)) and abs(answer - kept) <= TOLERANCE * max(abs(kept), 1)
    return answer == kept


def main():
    url, picture, kept = sys.argv[1], pathlib.Path(sys.argv[2]).read_bytes(), json.loads(pathlib.Path(sys.argv[3]).read_text())

    def ask(_):
        request = urllib.request.Request(url, picture, {"content-type": "image/jpeg"})
        with urllib.request.urlopen(request, timeout=30) as answer:
            return json.load(answer)

    with concurrent.futures.ThreadPoolExecutor(CALLERS) as pool:
        answers = [ask(0)] + list(pool.map(ask, range(REQUESTS)))
    other = [answer for answer in answers if not near(answer, kept)]
    if other:
        print(f"FAILED: {len(other)} of {len(answers)} answers are not as kept, such as {json.dumps(other[0])[:300]}")
    else:
        print(f"{len(answers)} answers as kept, {len(kept['detections'])} objects in each")


if __name__ == "__main__":
    main()
