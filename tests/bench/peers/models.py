"""The two models as a Python service has them: the same TorchScript files, the same answers as Tenon's plugins give.

Knows nothing of servers. Requests come as bodies and go as bodies, several at once where the server batches; a server
that does not gives one. Which files: the variables MODEL and TOKENIZER.
"""

import json
import os

import numpy
import tokenizers
import torch

MAX_TOKENS = 256
ELEMENTS = 16

torch.set_num_threads(1)
torch.set_num_interop_threads(1)


class Identity:
    """Rows of sixteen FP32, given back."""

    media_type = "application/octet-stream"
    # Requests that make one batch as large as Tenon's: max_batch_size of its model.toml.
    batch = 64

    def __init__(self):
        self.model = torch.jit.load(os.environ["MODEL"]).eval()

    @torch.inference_mode()
    def answer(self, bodies):
        rows = numpy.frombuffer(b"".join(bodies), dtype=numpy.float32).reshape(-1, ELEMENTS)
        # A copy, because torch does not take memory that may not be written.
        out = self.model(torch.from_numpy(rows.copy())).numpy()
        ends = numpy.cumsum([len(body) // (4 * ELEMENTS) for body in bodies])
        return [part.tobytes() for part in numpy.split(out, ends[:-1])]


class Reranker:
    """A query and documents, ranked by the cosine of their embeddings."""

    media_type = "application/json"
    # Four requests of nine rows are a batch like Tenon's of at most 32 rows.
    batch = 4

    def __init__(self):
        self.model = torch.jit.load(os.environ["MODEL"]).eval()
        self.tokenizer = tokenizers.Tokenizer.from_file(os.environ["TOKENIZER"])
        self.tokenizer.enable_truncation(MAX_TOKENS)
        self.tokenizer.enable_padding()

    @torch.inference_mode()
    def answer(self, bodies):
        questions = [json.loads(body) for body in bodies]
        texts = [text for question in questions for text in (question["query"], *question["documents"])]
        encoded = self.tokenizer.encode_batch(texts)
        inputs = [torch.tensor(list(column), dtype=torch.int64)
                  for column in zip(*((row.ids, row.attention_mask, row.type_ids) for row in encoded))]
        embeddings, answers, start = self.model(*inputs).numpy(), [], 0
        for question in questions:
            end = start + 1 + len(question["documents"])
            scores = embeddings[start + 1:end] @ embeddings[start]
            results = [{"index": int(index), "relevance_score": float(scores[index])}
                       for index in numpy.argsort(-scores, kind="stable")]
            tokens = sum(sum(row.attention_mask) for row in encoded[start:end])
            answers.append(json.dumps({"results": results, "model": "minilm", "usage": {"tokens": tokens}}).encode())
            start = end
        return answers


MODELS = {"identity": Identity, "reranker": Reranker}
