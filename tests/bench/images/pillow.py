"""What a service in Python does with an image before it asks its model: `pillow.py <file>` says the milliseconds."""

import io
import sys
import time

import numpy as np
from PIL import Image

SIDE = 320
PICTURES = 20
TURNS = 41


def row(data):
    image = Image.open(io.BytesIO(data)).convert("RGB")
    ratio = min(SIDE / image.width, SIDE / image.height)
    image = image.resize((round(image.width * ratio), round(image.height * ratio)), Image.BILINEAR)
    canvas = np.full((SIDE, SIDE, 3), 114, np.uint8)
    left, top = (SIDE - image.width) // 2, (SIDE - image.height) // 2
    canvas[top : top + image.height, left : left + image.width] = np.asarray(image)
    return np.ascontiguousarray(canvas.transpose(2, 0, 1), np.float32)[None] / 255


data = open(sys.argv[1], "rb").read()
times = []
for _ in range(TURNS):
    start = time.perf_counter()
    for _ in range(PICTURES):
        row(data)
    times.append((time.perf_counter() - start) / PICTURES)
print(sorted(times)[TURNS // 2] * 1e3)
