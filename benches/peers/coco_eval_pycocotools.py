"""The numbers and the time of pycocotools on generated data sets.

    python benches/peers/coco_eval_pycocotools.py numbers tests/golden/12_coco/random.safetensors
    python benches/peers/coco_eval_pycocotools.py time [IMAGES] [DETECTIONS]
    python benches/peers/coco_eval_pycocotools.py compare GROUND_TRUTH RESULTS [bbox|segm]

`numbers` writes the twelve numbers of 1,000 small sets for boxes and for masks, which the tests of
detr-eval expect bit for bit. `time` scores one large set, as
`cargo xtask bench eval` does, which runs both with `--peer`. `compare` scores a results file with detr-eval too and stops if a single bit differs. The sets
are those of `crates/detr-eval/tests/generated/mod.rs`: what is changed here is changed there.
Needs numpy and pycocotools.
"""

import contextlib
import io
import json
import subprocess
import sys
import time

import numpy as np
import pycocotools.mask
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

MASK = (1 << 64) - 1


class Stream:
    """The splitmix64 generator."""

    def __init__(self, state):
        self.state = state & MASK

    def below(self, bound):
        self.state = (self.state + 0x9E3779B97F4A7C15) & MASK
        z = self.state
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & MASK
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & MASK
        z ^= z >> 31
        return (z >> 33) % bound

    def score(self):
        steps = 64 if self.below(2) == 0 else 1 << 20
        return self.below(steps) / steps


def random_box(stream, width, height):
    low, high = [(4, 32), (32, 96), (96, 200)][stream.below(3)]
    w = min(4 * low + stream.below(4 * (high - low)), 4 * width)
    h = min(4 * low + stream.below(4 * (high - low)), 4 * height)
    x = stream.below(4 * width - w + 1)
    y = stream.below(4 * height - h + 1)
    return x, y, w, h


def shaken(stream, box):
    x, y, w, h = box
    shake = lambda side: stream.below(2 * (side // 8) + 1) - side // 8
    x, y = x + shake(w), y + shake(h)
    dw, dh = shake(w), shake(h)
    return x, y, w + dw, h + dh


def pixels(box):
    return [side / 4 for side in box]


def polygons(stream, box):
    x, y, w, h = box
    outline = []
    for right, bottom in [(False, False), (True, False), (True, True), (False, True)]:
        dx, dy = stream.below(w // 6 + 1), stream.below(h // 6 + 1)
        outline += [(x + (w - dx if right else dx)) / 4, (y + (h - dy if bottom else dy)) / 4]
    if stream.below(4) != 0:
        return [outline]
    inside = []
    for _ in range(3 + stream.below(4)):
        dx, dy = stream.below(w + 1), stream.below(h + 1)
        inside += [(x + dx) / 4, (y + dy) / 4]
    return [outline, inside]


def runs(stream, box, width, height):
    """Run lengths, found from the pixels."""
    x, y, w, h = box
    cut = stream.below(5)
    left, top = x >> 2, y >> 2
    right, bottom = left + max(w >> 2, 1), top + max(h >> 2, 1)
    mask = np.zeros((height, width), np.uint8)
    for column in range(max(left, 0), min(right, width)):
        start = top + (column - left) * cut // 16
        mask[max(start, 0) : max(bottom, 0), column] = 1
    flat = np.concatenate([[0], mask.flatten(order="F"), [2]])
    edges = np.flatnonzero(np.diff(flat))
    counts = np.diff(np.concatenate([[0], edges])).tolist()
    return {"size": [height, width], "counts": counts}


def compressed(rle):
    return pycocotools.mask.frPyObjects(rle, *rle["size"])


def random_set(seed, iou):
    stream = Stream(seed * 1_000_003 + (2 if iou == "segm" else 1))
    images = 1 + stream.below(6)
    classes = 1 + stream.below(5)
    crowded = 130 if seed % 50 == 0 else None
    return draw(stream, images, classes, 6, None, crowded, iou)


def large_set(images, detections):
    return draw(Stream(7), images, 80, 14, (640, 480), detections, "bbox")


def draw(stream, image_count, class_count, most_objects, fixed_size, fixed_detections, iou):
    class_ids = [7 * k + 1 + stream.below(7) for k in range(class_count)]
    pick = lambda: class_ids[stream.below(class_count)]
    truth = {"images": [], "annotations": [], "categories": [{"id": i, "name": f"class {i}"} for i in class_ids]}
    results = []
    for index in range(image_count):
        image_id = 10 * index + 1 + stream.below(10)
        if fixed_size is None:
            side = (lambda: 40 + stream.below(120)) if iou == "segm" else (lambda: 200 + stream.below(400))
            height = side()
            width = side()
        else:
            width, height = fixed_size
        truth["images"].append({"id": image_id, "width": width, "height": height})
        places = []
        for _ in range(stream.below(most_objects + 1)):
            box = random_box(stream, width, height)
            category = pick()
            crowd = stream.below(8) == 0
            _, _, w, h = pixels(box)
            annotation = {
                "id": len(truth["annotations"]) + 1,
                "image_id": image_id,
                "category_id": category,
                "bbox": pixels(box),
                "area": w * h * (4 + stream.below(5)) / 8,
                "iscrowd": int(crowd),
            }
            if iou == "segm":
                annotation["segmentation"] = runs(stream, box, width, height) if crowd else polygons(stream, box)
            truth["annotations"].append(annotation)
            places.append((box, category))
        found = []
        for box, category in places:
            for _ in range(stream.below(4)):
                moved = shaken(stream, box)
                found.append((moved, pick() if stream.below(8) == 0 else category))
        more = stream.below(6) + (index == 0)
        total = fixed_detections if fixed_detections is not None else len(found) + more
        found = found[:total]
        crowd_class = pick()
        while len(found) < total:
            box = random_box(stream, width, height)
            of_crowd = fixed_size is None and fixed_detections is not None
            found.append((box, crowd_class if of_crowd else pick()))
        for box, category in found:
            result = {"image_id": image_id, "category_id": category, "score": stream.score()}
            if iou == "segm":
                result["segmentation"] = compressed(runs(stream, box, width, height))
            else:
                result["bbox"] = pixels(box)
            results.append(result)
    return truth, results


def evaluate(truth, results, iou):
    with contextlib.redirect_stdout(io.StringIO()):
        data = COCO()
        data.dataset = truth
        data.createIndex()
        evaluation = COCOeval(data, data.loadRes(results), iou)
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return evaluation.stats


def numbers(path, sets=1000):
    tensors = {iou: np.array([evaluate(*random_set(seed, iou), iou) for seed in range(sets)]) for iou in ("bbox", "segm")}
    header, blob = {}, b""
    for name, tensor in tensors.items():
        data = tensor.astype("<f8").tobytes()
        header[name] = {"dtype": "F64", "shape": list(tensor.shape), "data_offsets": [len(blob), len(blob) + len(data)]}
        blob += data
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as file:
        file.write(len(text).to_bytes(8, "little") + text + blob)


def timed(images=5000, detections=100):
    truth, results = large_set(images, detections)
    counts = {"images": images, "objects": len(truth["annotations"]), "detections": len(results)}
    start = time.perf_counter()
    stats = evaluate(truth, results, "bbox")
    seconds = time.perf_counter() - start
    print(json.dumps(counts | {"seconds": [seconds], "stats": stats.tolist()}))


def compare(truth, results, iou="bbox"):
    with open(truth) as truth_file, open(results) as results_file:
        theirs = evaluate(json.load(truth_file), json.load(results_file), iou).tolist()
    command = ["cargo", "run", "--release", "--quiet", "-p", "detr-eval", "--example", "score", "--"]
    output = subprocess.run(command + [truth, results, iou], check=True, capture_output=True, text=True).stdout
    ours = json.loads(output.splitlines()[-1])
    print(*output.splitlines()[:12], sep="\n")
    if ours != theirs:
        sys.exit(f"different: ours {ours}, pycocotools {theirs}")
    print("equal to the last bit")


if sys.argv[1] == "numbers":
    numbers(sys.argv[2])
elif sys.argv[1] == "compare":
    compare(*sys.argv[2:])
else:
    timed(*map(int, sys.argv[2:]))
