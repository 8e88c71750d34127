"""Texts in, unit vectors out: `POST {"texts": ["…"], "mean"?: bool}` is answered with `{"vectors": [[…]], "tokens"}`.

Owns the order of things: read, encode, ask, answer. What a right question is stands in `question`. componentize-py makes
the classes below into the exports of the world `transform`; `wit_world` is what it generates from `wit/`.
"""

import array
import json
import math

import question
from componentize_py_types import Err
from wit_world.imports import config, steps, text
from wit_world.imports.response import Response
from wit_world.imports.types import Rejection

# The plugin's name for the model: the key under `[models]` in function.toml.
ENCODER = "encoder"
DEFAULT_MOST_TEXTS = 64
DECIMALS = 6
# Failures of `encode` that a request can cause; every other one is a fault of the plugin.
CALLERS_FAULT = {"too-long": 422, "too-large": 413, "memory": 413}
POST_ONLY = Rejection(405, "method-not-allowed", "this function answers POST only", None, [("allow", "POST")], None)

# Left by `preprocess` for `postprocess`. Set anew by each request, because with `reuse` in function.toml they are what the
# last one left.
asked: question.Question
tokens: int


def stage(function):
    """A stage whose refusals are rejections; whatever else it raises is a trap, with the traceback in the function's log."""

    def rejecting(*arguments):
        try:
            return function(*arguments)
        except question.Refused as refused:
            raise Err(Rejection(refused.status, refused.code, refused.detail, refused.pointer, [], None)) from None

    return rejecting


class Preprocessing:
    """Exports `preprocessing`."""

    @stage
    def preprocess(self, request):
        global asked, tokens
        if request.method() != "POST":
            raise Err(POST_ONLY)
        most = config.get("max_texts")
        asked = question.read(request.body(), int(most) if most is not None else DEFAULT_MOST_TEXTS)
        rows = encode(asked.texts)
        ids = rows.ids()
        tokens = sum(ids.lengths())
        inference = steps.Inference(ENCODER)
        inference.input("input_ids", ids)
        inference.input("attention_mask", rows.attention_mask())
        inference.input("token_type_ids", rows.type_ids())
        return steps.Step_Infer([inference])


class Postprocessing:
    """Exports `postprocessing`."""

    @stage
    def postprocess(self, request, outputs):
        tensor = outputs[0].tensor("embedding")
        rows, width = tensor.shape()
        numbers = array.array("f", tensor.read(0, tensor.size()))
        vectors = [numbers[row * width : (row + 1) * width] for row in range(rows)]
        if asked.mean:
            vectors = [[sum(column) for column in zip(*vectors)]]
        answer = {"vectors": [unit(vector) for vector in vectors], "tokens": tokens}
        response = Response(200, "application/json")
        response.write(json.dumps(answer, separators=(",", ":")).encode())
        return steps.Step_Respond(response)


def encode(texts):
    """A row of tokens for each text; they stay in the host."""
    try:
        return text.encode(ENCODER, [text.Input_Single(each) for each in texts], text.Options())
    except Err as error:
        failure = error.value
        status = CALLERS_FAULT.get(failure.code)
        if status is None:
            raise RuntimeError(f"`encode` failed with `{failure.code}`: {failure.detail}") from None
        raise question.Refused(status, failure.code, failure.detail, "/texts") from None


def unit(vector):
    """The vector brought to length 1, in as many digits as FP32 has."""
    length = math.hypot(*vector) or 1.0
    return [round(number / length, DECIMALS) for number in vector]
