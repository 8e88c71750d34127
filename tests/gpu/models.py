"""Makes the models of tests/gpu.sh from a fixed seed: a residual net for pictures, an encoder for ids and a tagger on top of
one, as TorchScript with their model.toml, inputs and the processor's answers to them. Needs torch alone."""

import pathlib
import sys

import torch
from torch import nn
from torch.nn import functional as F

sys.path.insert(0, str(pathlib.Path(__file__).parent))
from asking import body  # noqa: E402

SIDE, WORDS, WIDTH, HEADS, LAYERS, LABELS, EXAMPLES = 112, 30522, 384, 12, 6, 9, 24


class Block(nn.Module):
    def __init__(self, before, after, stride):
        super().__init__()
        self.one = nn.Conv2d(before, after, 3, stride, 1, bias=False)
        self.two = nn.Conv2d(after, after, 3, 1, 1, bias=False)
        self.norms = nn.ModuleList([nn.BatchNorm2d(after), nn.BatchNorm2d(after)])
        self.short = nn.Conv2d(before, after, 1, stride, bias=False) if stride > 1 or before != after else nn.Identity()

    def forward(self, x):
        y = F.relu(self.norms[0](self.one(x)))
        return F.relu(self.norms[1](self.two(y)) + self.short(x))


def residual():
    widths = [64, 64, 128, 256, 512]
    blocks = [nn.Conv2d(3, 64, 7, 2, 3), nn.ReLU(), nn.MaxPool2d(3, 2, 1)]
    for before, after in zip(widths, widths[1:]):
        blocks += [Block(before, after, 1 if after == 64 else 2), Block(after, after, 1)]
    return nn.Sequential(*blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(512, 100))


class Layer(nn.Module):
    def __init__(self):
        super().__init__()
        self.parts = nn.ModuleList([nn.Linear(WIDTH, WIDTH) for _ in range(4)])
        self.wide, self.narrow = nn.Linear(WIDTH, 4 * WIDTH), nn.Linear(4 * WIDTH, WIDTH)
        self.norms = nn.ModuleList([nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)])

    def attend(self, q, k, v, bias):
        return F.scaled_dot_product_attention(q, k, v, attn_mask=bias)

    def forward(self, h, bias):
        q, k, v = (part(h).unflatten(2, [HEADS, WIDTH // HEADS]).transpose(1, 2) for part in self.parts[:3])
        seen = self.attend(q, k, v, bias).transpose(1, 2).flatten(2, 3)
        h = self.norms[0](h + self.parts[3](seen))
        return self.norms[1](h + self.narrow(F.gelu(self.wide(h))))


class Encoder(nn.Module):
    """As large as MiniLM-L6, which the reranker asks: a text's meaning as a unit vector."""

    def __init__(self):
        super().__init__()
        self.words, self.places = nn.Embedding(WORDS, WIDTH), nn.Embedding(512, WIDTH)
        self.layers = nn.ModuleList([Layer() for _ in range(LAYERS)])

    def tokens(self, ids, mask):
        # Positions that never pass through Python's integers: so shapes stay open in the trace.
        h = self.words(ids) + self.places(torch.ones_like(ids).cumsum(1) - 1)
        bias = (1.0 - mask[:, None, None, :].float()) * -10000.0
        for layer in self.layers:
            h = layer(h, bias)
        return h

    def forward(self, ids, mask):
        h = self.tokens(ids, mask)
        part = mask.unsqueeze(-1).float()
        return F.normalize((h * part).sum(1) / part.sum(1).clamp(min=1e-9), dim=1)


class Tagger(nn.Module):
    """Scores of each label for each token: an output that is as ragged as its input."""

    def __init__(self):
        super().__init__()
        self.encoder, self.labels = Encoder(), nn.Linear(WIDTH, LABELS)

    def forward(self, ids, mask):
        return self.labels(self.encoder.tokens(ids, mask))


class Table(nn.Module):
    """Has fewer words than its model.toml says: ids beyond them pass every check of the host's, and assert on a GPU."""

    def __init__(self):
        super().__init__()
        self.words = nn.Embedding(16, 8)

    def forward(self, ids):
        return self.words(ids).sum(1)


TABLE = """[model]
precision = "fp32"
[[input]]
name = "ids"
datatype = "INT64"
shape = ["rows", 4]
range = [0, 99]
[[output]]
name = "sums"
datatype = "FP32"
shape = ["rows", 8]
[instances]
count = 2
device = "cuda"
"""
CONV = f"""[model]
precision = "fp32"
[[input]]
name = "picture"
datatype = "FP32"
shape = ["rows", 3, {SIDE}, {SIDE}]
[[output]]
name = "scores"
datatype = "FP32"
shape = ["rows", 100]
[batching]
max_batch_size = 32
max_queue_size = 4096
queue_timeout_ms = 20000
[instances]
count = 4
device = "cuda"
"""
ENCODER = f"""[model]
precision = "fp32"
[dimensions]
seq = {{ max = 512 }}
[[input]]
name = "ids"
datatype = "INT64"
shape = ["rows", "seq"]
range = [0, {WORDS - 1}]
[[input]]
name = "mask"
datatype = "INT64"
shape = ["rows", "seq"]
range = [0, 1]
[[output]]
name = "embedding"
datatype = "FP32"
shape = ["rows", {WIDTH}]
[batching]
max_batch_size = 32
max_queue_size = 4096
queue_timeout_ms = 20000
buckets = {{ seq = [16, 32, 64, 128, 256, 512] }}
[instances]
count = 4
device = "cuda"
"""


EMBEDDING = f"""name = "embedding"
datatype = "FP32"
shape = ["rows", {WIDTH}]
"""
TAGGER = ENCODER.replace(EMBEDDING, f"""name = "labels"
datatype = "FP32"
shape = ["rows", "seq", {LABELS}]
""")


def main():
    torch.manual_seed(11)
    to = pathlib.Path(sys.argv[1])
    lengths = [int(length) for length in torch.randint(3, 200, (EXAMPLES,))]
    pictures = [(torch.rand(1, 3, SIDE, SIDE),) for _ in range(EXAMPLES)]
    ids = [(torch.randint(0, WORDS, (1, n)), torch.ones(1, n, dtype=torch.long)) for n in lengths]
    for name, model, toml, names, examples in (
        ("conv", residual(), CONV, ["picture"], pictures),
        ("encoder", Encoder(), ENCODER, ["ids", "mask"], ids),
        ("table", Table(), TABLE, ["ids"], [(torch.tensor([[1, 2, 3, 15]]),)]),
        ("tagger", Tagger(), TAGGER, ["ids", "mask"], ids[:2]),
    ):
        model = model.eval()
        folder = to / "made" / name
        (folder / "1").mkdir(parents=True)
        (folder / "model.toml").write_text(toml)
        with torch.no_grad():
            traced = torch.jit.trace(model, examples[0])
            traced.save(str(folder / "1" / "model.pt"))
            answers = [traced(*example) for example in examples]
        torch.save(model.state_dict(), to / f"{name}.weights")
        torch.save({"names": names, "examples": examples, "answers": answers}, to / f"{name}.examples")
        fixed = (torch.randint(0, WORDS, (1, 64)), torch.ones(1, 64, dtype=torch.long))
        packed, head = body(names, fixed if len(names) == 2 else examples[0])
        (to / f"{name}.body").write_bytes(packed)
        (to / f"{name}.header").write_text(str(head))
    print("models: a residual net (112 x 112, 18 layers), an encoder and a tagger (6 layers of 384), weights from seed 11")


if __name__ == "__main__":
    main()
