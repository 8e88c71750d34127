"""Holds a segmentation's answer against OpenCV and COCO's tools.

    python3 vision_reference.py < answer.json

The answer has polygons and `mask=rle`. Polygons are filled by OpenCV, run lengths decoded by COCO's tools; printed are
the intersection of the two masks over their union, the number of regions, and how many of them OpenCV finds.
"""

import json
import sys

import cv2
import numpy
import pycocotools.mask

# fillPoly colours the pixels on the line, too: drawn four times as large, it reaches a quarter of a pixel too far, and
# looked at is what is further inside.
LARGER, LOOK = 4, 1

answer = json.load(sys.stdin)
height, width = answer["mask"]["size"]
packed = pycocotools.mask.frPyObjects(answer["mask"], height, width)
mask = pycocotools.mask.decode(packed)

filled = numpy.zeros((height, width), bool)
for region in answer["regions"]:
    large = numpy.zeros((height * LARGER, width * LARGER), numpy.uint8)
    cv2.fillPoly(large, [numpy.array(ring, numpy.int32) * LARGER for ring in region["polygon"]], 1)
    filled |= large[LOOK::LARGER, LOOK::LARGER].astype(bool)

either = (filled | (mask == 1)).sum()
print(json.dumps({
    "iou": float((filled & (mask == 1)).sum() / either) if either else 1.0,
    "regions": len(answer["regions"]),
    "found": cv2.connectedComponents(mask, connectivity=4)[0] - 1,
    "area": int(mask.sum()),
}))
