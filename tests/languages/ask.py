"""What tests/languages.sh asks of a host: that all languages give the right answers and the same refusals, and what each
costs. Owns the cases and how figures are told; starts nothing. Needs Python's standard library alone.
"""

import array
import datetime
import http.client
import json
import math
import pathlib
import re
import statistics
import sys

# The largest difference in an element that is fine: answers have six digits, the model agrees to 1e-5.
TOLERANCE = 2e-5
TIMEOUT_SECONDS = 60
FIXTURES = pathlib.Path(__file__).parent.parent / "fixtures/minilm"
ROWS_AT_ONCE = 25
WARM_UP, MOST_CALLS = 10, 200
STAGES = {"validate": "start", "preprocess": "preprocess", "postprocess": "postprocess"}

# body, status, code, pointer. Rust's JSON reader refuses half a surrogate pair itself, so it is asked apart.
REFUSED = [
    (b"", 400, "empty-body", None),
    (b" \r\n", 400, "empty-body", None),
    (b'{"texts": ["\xff"]}', 400, "invalid-utf8", None),
    (b'\xef\xbb\xbf{"texts": ["a"]}', 400, "invalid-json", None),
    (b'{"texts": ["a",]}', 400, "invalid-json", None),
    (b'{"texts": ["a"], "mean": NaN}', 400, "invalid-json", None),
    (b"[" * 100_000, 400, "invalid-json", None),
    (b"[]", 422, "not-an-object", ""),
    (b"7", 422, "not-an-object", ""),
    (b"{}", 422, "missing-texts", "/texts"),
    (b'{"texts": null}', 422, "missing-texts", "/texts"),
    (b'{"texts": "a"}', 422, "invalid-texts", "/texts"),
    (b'{"texts": []}', 422, "empty-texts", "/texts"),
    (json.dumps({"texts": ["a"] * 65}).encode(), 422, "too-many-texts", "/texts"),
    (b'{"texts": ["a", 7]}', 422, "invalid-text", "/texts/1"),
    (b'{"texts": ["a", {"text": "b"}]}', 422, "invalid-text", "/texts/1"),
    (b'{"texts": ["a", "b", " \\n"]}', 422, "empty-text", "/texts/2"),
    (b'{"texts": ["a"], "mean": 1}', 422, "invalid-mean", "/mean"),
    (json.dumps({"texts": ["word " * 600]}).encode(), 422, "too-long", "/texts"),
]
HALF_A_PAIR = (b'{"texts": ["a", "\\ud800"]}', 422, "invalid-text", "/texts/1")
# Brackets in a string are no nesting.
BRACKETS = json.dumps({"texts": ["[{" * 200]}).encode()


class Host:
    """One connection."""

    def __init__(self, address):
        self.connection = http.client.HTTPConnection(address, timeout=TIMEOUT_SECONDS)

    def ask(self, function, body, method="POST"):
        """Status, headers, and the body as JSON."""
        self.connection.request(method, f"/v1/functions/{function}", body)
        answer = self.connection.getresponse()
        return answer.status, answer.headers, json.loads(answer.read())


def vectors(host, function, texts, **more):
    status, _, answer = host.ask(function, json.dumps({"texts": texts, **more}).encode())
    if status != 200:
        sys.exit(f"error: {function} answered {status}: {answer}")
    return answer


def expected():
    """The sentences, their vectors, and how many tokens each has."""
    sentences = (FIXTURES / "sentences.txt").read_text(encoding="utf-8").splitlines()
    numbers = array.array("f", (FIXTURES / "reference.f32").read_bytes())
    width = len(numbers) // len(sentences)
    tokens = [len(json.loads(line)["ids"]) for line in (FIXTURES / "tokens.jsonl").read_text().splitlines()]
    return sentences, [list(numbers[row * width : (row + 1) * width]) for row in range(len(sentences))], tokens


def furthest(answered, wanted):
    """The largest difference of an element; infinite where the shapes differ."""
    if [len(row) for row in answered] != [len(row) for row in wanted]:
        return math.inf
    pairs = zip(answered, wanted)
    return max(abs(left - right) for rows in pairs for left, right in zip(*rows))


def check_answers(host, function):
    """Against the vectors of an independent implementation, one by one and as their mean."""
    sentences, wanted, tokens = expected()
    worst = 0.0
    for first in range(0, len(sentences), ROWS_AT_ONCE):
        rows = slice(first, first + ROWS_AT_ONCE)
        answer = vectors(host, function, sentences[rows])
        worst = max(worst, furthest(answer["vectors"], wanted[rows]))
        if answer["tokens"] != sum(tokens[rows]):
            sys.exit(f"error: {function} counts {answer['tokens']} tokens, there are {sum(tokens[rows])}")
    total = [sum(column) for column in zip(*wanted[:ROWS_AT_ONCE])]
    mean = [[number / math.hypot(*total) for number in total]]
    worst = max(worst, furthest(vectors(host, function, sentences[:ROWS_AT_ONCE], mean=True)["vectors"], mean))
    if worst > TOLERANCE:
        sys.exit(f"error: {function} is off by {worst:.1e}, {TOLERANCE:.0e} at most")
    return worst


def check_refusals(host, function, cases):
    for body, status, code, pointer in cases:
        got, _, problem = host.ask(function, body)
        if (got, problem["code"], problem.get("pointer")) != (status, code, pointer):
            sys.exit(f"error: {function} answers {body[:40]!r} with {got} {problem}, expected {status} {code} {pointer}")
    got, headers, problem = host.ask(function, b"", "GET")
    if (got, problem["code"], headers["allow"]) != (405, "method-not-allowed", "POST"):
        sys.exit(f"error: {function} answers GET with {got} {problem}")
    vectors(host, function, json.loads(BRACKETS)["texts"])


def compare(address, functions):
    """Every function against what is expected, and against the first."""
    host = Host(address)
    sentences, _, _ = expected()
    first = vectors(host, functions[0], sentences[:ROWS_AT_ONCE])["vectors"]
    for function in functions:
        worst = check_answers(host, function)
        cases = REFUSED + ([] if function.endswith("/rust") else [HALF_A_PAIR])
        check_refusals(host, function, cases)
        apart = furthest(vectors(host, function, sentences[:ROWS_AT_ONCE])["vectors"], first)
        if apart > TOLERANCE:
            sys.exit(f"error: {function} and {functions[0]} differ by {apart:.1e}")
        print(f"  {function}: {len(sentences)} texts within {worst:.1e}, {len(cases) + 1} refusals as expected;"
              f" within {apart:.1e} of {functions[0]}")


def stages(host, function, body):
    """One call: what the host says that each stage took, in ms, and the whole."""
    status, headers, answer = host.ask(function, body)
    if status != 200:
        sys.exit(f"error: {function} answered {status}: {answer}")
    told = dict(re.findall(r"(\w+);dur=([\d.]+)", headers["server-timing"]))
    return [float(told[name]) for name in STAGES] + [float(headers["x-process-time"])]


def times(address, functions):
    """The median of each stage over calls of all functions in turn, so that what else the machine does hits all alike."""
    host = Host(address)
    sentences, _, _ = expected()
    for count, calls in ((1, MOST_CALLS), (50, MOST_CALLS // 10)):
        body = json.dumps({"texts": (sentences * count)[:count]}).encode()
        rows = {function: [] for function in functions}
        for call in range(WARM_UP + calls):
            for function in functions:
                told = stages(host, function, body)
                if call >= WARM_UP:
                    rows[function].append(told)
        print(f"  {count} text{'s' * (count > 1)}, median of {calls} calls in ms:")
        for function, told in rows.items():
            parts = [statistics.median(column) for column in zip(*told)]
            named = ", ".join(f"{name} {part:.2f}" for name, part in zip(STAGES.values(), parts))
            guest = statistics.median(sum(row[:-1]) for row in told)
            print(f"    {function}: {named}; guest {guest:.2f}, whole call with the model {parts[-1]:.2f}")


def deploys(log):
    """How long each function took from the line before it to `function ready`: a host brings them up one by one."""
    before = None
    for line in pathlib.Path(log).read_text(encoding="utf-8").splitlines():
        stamp = re.match(r"(\S+)Z +\w+ ", line)
        if not stamp:
            continue
        now = datetime.datetime.fromisoformat(stamp[1])
        ready = re.search(r'function ready tenant="(\S+)" function="(\S+)"', line)
        if ready and before:
            print(f"  {ready[1]}/{ready[2]}: ready after {(now - before).total_seconds():.1f} s")
        before = now


if __name__ == "__main__":
    {"compare": compare, "times": times}[sys.argv[1]](sys.argv[2], sys.argv[3:]) if sys.argv[1] != "deploys" \
        else deploys(sys.argv[2])
