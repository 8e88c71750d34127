"""What a caller asks, and each way in which it can be wrong. Owns the codes: 400 where the body cannot be read, 422 where
it can and is no question, each with a pointer to the place. Knows nothing of hosts and models, so that plain Python
tests it."""

import json
import re
from dataclasses import dataclass

BAD_REQUEST, UNPROCESSABLE = 400, 422
# Python's reader goes one call deeper for each bracket, and a guest's stack ends at some 1,500 of them: with a trap, which
# would make the caller's fault look like ours.
MOST_NESTED = 128
# Strings as a whole, so that brackets in them do not count; possessive, so that a long one costs no memory.
STRING_OR_BRACKET = re.compile(r'"(?:[^"\\]++|\\.)*+"|[\[\]{}]', re.DOTALL)


class Refused(Exception):
    """The caller is wrong: what they are told."""

    def __init__(self, status: int, code: str, detail: str, pointer: str | None = None) -> None:
        super().__init__(detail)
        self.status, self.code, self.detail, self.pointer = status, code, detail, pointer


@dataclass
class Question:
    """A question that passed."""

    texts: list[str]
    # One vector for all texts instead of one for each.
    mean: bool


def read(body: bytes, most_texts: int) -> Question:
    """The question in a request's body."""
    value = parse(body)
    if not isinstance(value, dict):
        raise Refused(UNPROCESSABLE, "not-an-object", f"expected an object with `texts`, found {kind(value)}", "")
    # `null` is what clients send for what they leave out.
    texts, mean = value.get("texts"), value.get("mean")
    if texts is None:
        raise Refused(UNPROCESSABLE, "missing-texts", "`texts` is missing", "/texts")
    if not isinstance(texts, list):
        raise Refused(UNPROCESSABLE, "invalid-texts", f"expected an array, found {kind(texts)}", "/texts")
    if not texts:
        raise Refused(UNPROCESSABLE, "empty-texts", "there are no texts", "/texts")
    if len(texts) > most_texts:
        raise Refused(UNPROCESSABLE, "too-many-texts", f"{len(texts)} texts, {most_texts} at most", "/texts")
    for index, text in enumerate(texts):
        check_text(text, f"/texts/{index}")
    if mean is not None and not isinstance(mean, bool):
        raise Refused(UNPROCESSABLE, "invalid-mean", f"expected true or false, found {kind(mean)}", "/mean")
    return Question(texts, bool(mean))


def parse(body: bytes) -> object:
    """The body as JSON, as strict as the Rust SDK."""
    try:
        text = body.decode()
    except UnicodeDecodeError as error:
        detail = f"the body is not UTF-8: first at byte {error.start}"
        raise Refused(BAD_REQUEST, "invalid-utf8", detail) from None
    if not text.strip(" \t\r\n"):
        raise Refused(BAD_REQUEST, "empty-body", "the body is empty; send a JSON object")
    if too_nested(text):
        raise Refused(BAD_REQUEST, "invalid-json", f"the body is not JSON: more than {MOST_NESTED} brackets deep")
    try:
        return json.loads(text, parse_constant=no_constant)
    except json.JSONDecodeError as error:
        detail = f"the body is not JSON: {error.msg} at line {error.lineno} column {error.colno}"
        raise Refused(BAD_REQUEST, "invalid-json", detail) from None
    except ValueError as error:
        raise Refused(BAD_REQUEST, "invalid-json", f"the body is not JSON: {error}") from None


def too_nested(text: str) -> bool:
    """Whether it goes deeper than the stack; texts with few brackets, nearly all, are not looked through."""
    if text.count("[") + text.count("{") <= MOST_NESTED:
        return False
    depth = 0
    for found in STRING_OR_BRACKET.finditer(text):
        depth += {"[": 1, "{": 1, "]": -1, "}": -1}.get(found.group(), 0)
        if depth > MOST_NESTED:
            return True
    return False


def no_constant(name: str) -> None:
    """Python reads `NaN` and `Infinity`, which JSON does not have."""
    raise ValueError(f"`{name}` is no number")


def check_text(text: object, pointer: str) -> None:
    """Refuses what has no tokens, and half a surrogate pair, which cannot cross to the host."""
    if not isinstance(text, str):
        raise Refused(UNPROCESSABLE, "invalid-text", f"expected a string, found {kind(text)}", pointer)
    if not text.strip():
        raise Refused(UNPROCESSABLE, "empty-text", "there is no word in it", pointer)
    if any("\ud800" <= letter <= "\udfff" for letter in text):
        raise Refused(UNPROCESSABLE, "invalid-text", "half a surrogate pair is no text", pointer)


def kind(value: object) -> str:
    """What kind of value it is, with its article. A bool is an int to Python, so it is asked first."""
    if value is None:
        return "null"
    kinds = ((bool, "a boolean"), (int | float, "a number"), (str, "a string"), (list, "an array"))
    return next((name for type_, name in kinds if isinstance(value, type_)), "an object")
