"""Asks a host for embeddings with OpenAI's own client, and looks at what that makes of the answers.

What it owns: the client's side of tests/it/embeddings.rs. Arguments: the host's address, the folder of the reference
vectors. Ends with the line "well".
"""

import array
import asyncio
import pathlib
import sys

import openai

base, folder = sys.argv[1], pathlib.Path(sys.argv[2])
SENTENCES = (folder / "sentences.txt").read_text(encoding="utf-8").rstrip("\n").split("\n")
REFERENCE = array.array("f")
REFERENCE.frombytes((folder / "reference.f32").read_bytes())
DIMENSIONS = len(REFERENCE) // len(SENTENCES)

client = openai.OpenAI(base_url=f"{base}/v1", api_key="of-somebody-else", max_retries=0)


def near(vector, sentence):
    expected = REFERENCE[sentence * DIMENSIONS : (sentence + 1) * DIMENSIONS]
    assert len(vector) == DIMENSIONS, len(vector)
    most = max(abs(found - wanted) for found, wanted in zip(vector, expected))
    assert most < 1e-5, most


def refused(kind, of=client, **question):
    try:
        of.embeddings.create(**question)
    except kind as error:
        assert error.request_id, "the client shows the request's id"
        return error
    raise AssertionError(f"not refused: {question}")


# As everybody calls it: the client asks for base64 and decodes it.
answer = client.embeddings.create(model="text-embedding-3-small", input=SENTENCES)
assert [entry.index for entry in answer.data] == list(range(len(SENTENCES)))
for sentence, entry in enumerate(answer.data):
    near(entry.embedding, sentence)
assert answer.usage.prompt_tokens == answer.usage.total_tokens > len(SENTENCES)
assert answer.model == "minilm" and answer.object == "list"

one = client.embeddings.create(model="m", input=SENTENCES[3], encoding_format="float", user="u", dimensions=DIMENSIONS)
near(one.data[0].embedding, 3)
# "hello" as ids of tokens, with what begins and ends a row.
near(client.embeddings.create(model="m", input=[101, 7592, 102]).data[0].embedding, 0)
near(client.embeddings.create(model="m", input=[[101, 7592, 102], [101, 7852, 102]]).data[1].embedding, 2)
raw = client.embeddings.with_raw_response.create(model="m", input="again")
assert raw.headers["x-tenon-revision"] == "1" and raw.parse().data[0].object == "embedding"

error = refused(openai.BadRequestError, model="m", input="")
assert (error.code, error.param, error.type) == ("empty-input", "input", "invalid_request_error"), error
error = refused(openai.BadRequestError, model="m", input="a", dimensions=64)
assert error.param == "dimensions" and "cannot be shortened" in str(error), error
error = refused(openai.BadRequestError, model="m", input=["a", "word " * 300])
assert error.param == "input[1]" and error.code == "too-many-tokens", error
error = refused(openai.BadRequestError, model="m", input=[1, 10**9])
assert error.code == "invalid-token", error

nobody = openai.OpenAI(base_url=f"{base}/nobody/v1", api_key="x", max_retries=0)
assert refused(openai.NotFoundError, of=nobody, model="m", input="a").code == "function-not-found"


async def at_once():
    many = openai.AsyncOpenAI(base_url=f"{base}/v1", api_key="x")
    answers = await asyncio.gather(*(many.embeddings.create(model="m", input=text) for text in SENTENCES[:16]))
    for sentence, answer in enumerate(answers):
        near(answer.data[0].embedding, sentence)


asyncio.run(at_once())
print("well")
