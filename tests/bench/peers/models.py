"""The models as a Python service has them: the same TorchScript files, the same answers as Tenon's plugins give.

Knows nothing of servers. Requests come as bodies and go as bodies, several at once where the server batches; a server
that does not gives one. Which files: the variables MODEL and TOKENIZER.
"""

import io
import json
import os

import numpy
import PIL.Image
import tokenizers
import torch

MAX_TOKENS = 256
ELEMENTS = 16
# As plugins/detector/function.toml has them.
SIDE, BARS = 320, 114
CONFIDENCE, OVERLAP, MOST = 0.25, 0.45, 100
CLASSES = ("circle", "square", "triangle", "star", "cross")

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


class Detector:
    """A picture, letterboxed; boxes without those that a better one of their class overlaps, in the picture's pixels."""

    media_type = "application/json"
    # As Tenon's model.toml has it.
    batch = 8

    def __init__(self):
        self.model = torch.jit.load(os.environ["MODEL"]).eval()

    @torch.inference_mode()
    def answer(self, bodies):
        pictures, rows = [], numpy.empty((len(bodies), 3, SIDE, SIDE), numpy.float32)
        for row, body in zip(rows, bodies):
            pictures.append(letterbox(body, row))
        found = self.model(torch.from_numpy(rows)).numpy()
        return [json.dumps(self.objects(*pair)).encode() for pair in zip(found, pictures)]

    def objects(self, found, picture):
        width, height, scale, left, top = picture
        scores = found[4:]
        best = scores.argmax(axis=0)
        confidence = scores.max(axis=0)
        likely = numpy.flatnonzero(confidence >= CONFIDENCE)
        likely = likely[numpy.argsort(-confidence[likely], kind="stable")]
        x, y, w, h = found[:4, likely]
        corners = numpy.stack([(x - w / 2 - left) / scale, (y - h / 2 - top) / scale,
                               (x + w / 2 - left) / scale, (y + h / 2 - top) / scale], axis=1)
        corners = corners.clip(0, [width, height, width, height])
        kept = without_overlaps(corners, best[likely])[:MOST]
        return {"width": width, "height": height, "detections": [
            {"class": CLASSES[best[likely[i]]], "class_id": int(best[likely[i]]),
             "confidence": float(confidence[likely[i]]), "box": dict(zip(("x1", "y1", "x2", "y2"), map(float, corners[i])))}
            for i in kept]}


def letterbox(body, row):
    """Fills a row with the picture between bars, and says the picture's size, the scale and where it lies."""
    picture = PIL.Image.open(io.BytesIO(body)).convert("RGB")
    width, height = picture.size
    scale = min(SIDE / width, SIDE / height)
    size = (round(width * scale), round(height * scale))
    left, top = (SIDE - size[0]) // 2, (SIDE - size[1]) // 2
    square = numpy.full((SIDE, SIDE, 3), BARS, numpy.uint8)
    square[top:top + size[1], left:left + size[0]] = picture.resize(size, PIL.Image.Resampling.BILINEAR)
    numpy.multiply(square.transpose(2, 0, 1), numpy.float32(1 / 255), out=row)
    return width, height, scale, left, top


def without_overlaps(corners, classes):
    """Indices of the boxes that stay, the best first; boxes come the best first."""
    area = (corners[:, 2] - corners[:, 0]) * (corners[:, 3] - corners[:, 1])
    left, kept = numpy.arange(len(corners)), []
    while len(left):
        one, left = left[0], left[1:]
        kept.append(one)
        low, high = numpy.maximum(corners[one, :2], corners[left, :2]), numpy.minimum(corners[one, 2:], corners[left, 2:])
        shared = (high - low).clip(0).prod(axis=1)
        over = shared / (area[one] + area[left] - shared) > OVERLAP
        left = left[~(over & (classes[left] == classes[one]))]
    return kept


MODELS = {"identity": Identity, "reranker": Reranker, "detector": Detector}
