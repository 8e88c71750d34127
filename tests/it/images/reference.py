"""Pictures through a host and through Pillow and OpenCV: `reference.py <address of easel>`. Says `well` at the end, or fails.

Filters are held against the library that the contract names, over scaling up and down, all modes and crops; decoders
against Pillow's; what is drawn against the mask that was drawn from.
"""

import io
import json
import sys
import urllib.request

import cv2
import numpy as np
from PIL import Image, ImageDraw

address = sys.argv[1]
FILTERS = {
    "triangle-antialias": Image.BILINEAR,
    "bicubic-antialias": Image.BICUBIC,
    "lanczos3-antialias": Image.LANCZOS,
    "nearest": Image.NEAREST,
}
# Mean difference, in pixels of 0 to 255.
MOST = 1.0
# Libraries are free in how they scale colours of JPEG up.
MOST_JPEG = 1.0


def ask(program, files):
    head = json.dumps(program).encode() + b"\n"
    with urllib.request.urlopen(urllib.request.Request(address, data=head + files)) as answer:
        return answer.headers["said"].split(" "), answer.read()


def picture(width=640, height=480):
    """Smooth colours, noise and sharp edges."""
    random = np.random.default_rng(7)
    smooth = Image.fromarray(random.integers(0, 255, (height // 16, width // 16, 3), "uint8"))
    pixels = np.asarray(smooth.resize((width, height), Image.BICUBIC)) + random.normal(0, 5, (height, width, 3))
    image = Image.fromarray(pixels.clip(0, 255).astype("uint8"))
    draw = ImageDraw.Draw(image)
    for _ in range(10):
        x, y = random.integers(0, width - 60), random.integers(0, height - 60)
        draw.ellipse([x, y, x + 60, y + 40], fill=tuple(int(value) for value in random.integers(0, 255, 3)))
    return image


def as_file(image, format, **options):
    file = io.BytesIO()
    image.save(file, format, **options)
    return file.getvalue()


def rows(file, wants):
    """One image decoded once, a row of a UINT8 tensor of its own for each fit."""
    program = [{"body": [0, len(file)]}]
    for number, want in enumerate(wants):
        width, height = want["size"]
        program.append({"tensor": ["UINT8", [1, height, width, 3]]})
        program.append({"row": {"image": 0, "tensor": number, "layout": "hwc", **want}})
        program.append({"read": number})
    said, read = ask(program, file)
    offset = 0
    for number, want in enumerate(wants):
        width, height = want["size"]
        size = width * height * 3
        row = np.frombuffer(read[offset : offset + size], "uint8").reshape(height, width, 3)
        offset += size
        yield row.astype(int), [float(number) for number in said[2 + 3 * number].split(",")]


def expected(image, want):
    """The same by the filter's own library, and the mapping."""
    width, height = want["size"]
    area = want.get("crop", [0, 0, *image.size])
    sides = [area[2] - area[0], area[3] - area[1]]
    target, first = [width, height], [0, 0]
    mode = want.get("mode", "stretch")
    if mode == "letterbox":
        ratio = min(width / sides[0], height / sides[1])
        target = [max(1, round(side * ratio)) for side in sides]
        first = [(width - target[0]) // 2, (height - target[1]) // 2]
    if mode == "cover":
        ratio = min(sides[0] / width, sides[1] / height)
        taken = [ratio * width, ratio * height]
        start = [area[0] + (sides[0] - taken[0]) / 2, area[1] + (sides[1] - taken[1]) / 2]
        area, sides = [*start, start[0] + taken[0], start[1] + taken[1]], taken
    scale = [sides[0] / target[0], sides[1] / target[1]]
    if want["filter"] == "bilinear":
        pixels = np.asarray(image)
        if sides == list(image.size):
            pixels = cv2.resize(pixels, target, interpolation=cv2.INTER_LINEAR)
        else:
            back = np.array([[scale[0], 0, area[0] + scale[0] / 2 - 0.5], [0, scale[1], area[1] + scale[1] / 2 - 0.5]])
            flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
            pixels = cv2.warpAffine(pixels.astype("float32"), back, target, flags=flags, borderMode=cv2.BORDER_REPLICATE)
    else:
        pixels = np.asarray(image.resize(target, FILTERS[want["filter"]], box=area))
    row = np.full((height, width, 3), 114.0)
    row[first[1] : first[1] + target[1], first[0] : first[0] + target[0]] = pixels
    return row, [*scale, area[0] - first[0] * scale[0], area[1] - first[1] * scale[1]]


def filters():
    image = picture()
    fits = [
        {"mode": "letterbox", "size": [320, 320]},
        {"mode": "letterbox", "size": [333, 217]},
        {"mode": "letterbox", "size": [64, 64]},
        {"mode": "letterbox", "size": [1000, 700]},
        {"size": [100, 301]},
        {"size": [1280, 961]},
        {"mode": "cover", "size": [224, 224]},
        {"mode": "cover", "size": [801, 300]},
        {"size": [64, 64], "crop": [10.3, 20.7, 211.9, 333.3]},
        {"size": [256, 256], "crop": [100, 100, 356, 356]},
        {"mode": "letterbox", "size": [128, 128], "crop": [33.5, 10.25, 600.5, 99.75]},
    ]
    wants = [{**fit, "filter": filter} for filter in [*FILTERS, "bilinear"] for fit in fits]
    for want, (row, mapping) in zip(wants, rows(as_file(image, "PNG"), wants)):
        reference, back = expected(image, want)
        apart = np.abs(row - reference).mean()
        assert apart <= MOST, f"{want}: {apart}"
        assert np.allclose(mapping, back, rtol=1e-5, atol=1e-4), f"{want}: {mapping}, not {back}"


def outside():
    """An area that reaches out of the image is the same as one of a larger image with bars around."""
    image = picture()
    around = Image.new("RGB", (1000, 1000), (114, 114, 114))
    around.paste(image, (200, 300))
    wants = [
        {"size": [300, 300], "crop": [-100, -100, 200, 200], "filter": "triangle-antialias"},
        {"size": [150, 100], "crop": [500, 400, 800, 600], "filter": "nearest"},
        {"size": [64, 64], "crop": [-150, -250, -20, -20], "filter": "nearest"},
    ]
    for want, (row, _) in zip(wants, rows(as_file(image, "PNG"), wants)):
        area = [place + move for place, move in zip(want["crop"], [200, 300, 200, 300])]
        reference = np.asarray(around.resize(want["size"], Image.NEAREST, box=area))
        apart = np.abs(row - reference).mean()
        assert apart <= MOST, f"{want}: {apart}"


def decoders():
    image = picture(317, 211)
    with_alpha = image.copy()
    with_alpha.putalpha(Image.linear_gradient("L").resize(image.size))
    on_white = Image.new("RGB", image.size, (255, 255, 255))
    on_white.paste(with_alpha, mask=with_alpha.getchannel("A"))
    files = {
        "jpeg": (as_file(image, "JPEG", quality=90), None, MOST_JPEG),
        "jpeg 4:4:4": (as_file(image, "JPEG", quality=90, subsampling=0), None, MOST_JPEG),
        "progressive": (as_file(image, "JPEG", quality=80, progressive=True), None, MOST_JPEG),
        "restarts": (as_file(image, "JPEG", quality=80, restart_marker_rows=2), None, MOST_JPEG),
        "grey jpeg": (as_file(image.convert("L"), "JPEG"), None, MOST_JPEG),
        "cmyk": (as_file(image.convert("CMYK"), "JPEG", quality=95), None, MOST_JPEG),
        "palette": (as_file(image.quantize(64), "PNG"), None, 0),
        "png with alpha": (as_file(with_alpha, "PNG"), on_white, 0.6),
        "webp": (as_file(image, "WEBP", quality=80), None, MOST_JPEG),
        "webp without loss": (as_file(image, "WEBP", lossless=True), None, 0),
        "webp with alpha": (as_file(with_alpha, "WEBP", lossless=True, exact=True), on_white, 0.6),
        "animated": (as_file(image, "WEBP", lossless=True, save_all=True, append_images=[image.rotate(180)]), None, 0),
    }
    for name, (file, reference, most) in files.items():
        reference = reference or Image.open(io.BytesIO(file)).convert("RGB")
        (row, _), = rows(file, [{"size": list(image.size)}])
        apart = np.abs(row - np.asarray(reference).astype(int)).mean()
        assert apart <= most, f"{name}: {apart}"


def encoders():
    image = picture(200, 150)
    pixels = image.tobytes()
    for format, most in [("png", 0), ("webp", 0), ("jpeg", 3)]:
        said, file = ask([{"pixels": [200, 150, 3, 0, len(pixels)]}, {"encode": [0, format]}], pixels)
        apart = np.abs(np.asarray(Image.open(io.BytesIO(file))).astype(int) - np.asarray(image)).mean()
        assert said == ["ok", "ok"] and apart <= most, f"{format}: {said} {apart}"
    grey = image.convert("L").tobytes()
    _, file = ask([{"pixels": [200, 150, 1, 0, len(grey)]}, {"encode": [0, "png"]}], grey)
    assert Image.open(io.BytesIO(file)).mode == "L"


def masks():
    """Outlines and holes that OpenCV finds in a mask, drawn, give the mask back."""
    mask = np.zeros((240, 320), "uint8")
    cv2.circle(mask, (110, 120), 80, 255, -1)
    cv2.circle(mask, (120, 110), 30, 0, -1)
    cv2.ellipse(mask, (240, 120), (50, 90), 20, 0, 360, 255, -1)
    # Pixels grown four times, so that rings along their middles become rings along their edges.
    large = cv2.resize(mask, None, fx=4, fy=4, interpolation=cv2.INTER_NEAREST)
    contours, _ = cv2.findContours(large, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE)
    rings = [((contour[:, 0, :] + 0.5) / 4).tolist() for contour in contours]
    black = bytes(mask.size)
    draw = {"image": 0, "rings": rings, "width": 0.0, "fill": 1.0, "colour": [255, 255, 255]}
    program = [{"pixels": [320, 240, 1, 0, len(black)]}, {"rings": draw}, {"encode": [0, "png"]}]
    _, file = ask(program, black)
    drawn, wanted = np.asarray(Image.open(io.BytesIO(file))) > 127, mask > 0
    overlap = (drawn & wanted).sum() / (drawn | wanted).sum()
    assert overlap >= 0.99, overlap


for part in (filters, outside, decoders, encoders, masks):
    part()
print("well")
