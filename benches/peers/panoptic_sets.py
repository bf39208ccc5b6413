"""Makes 200 small random panoptic data sets with predictions, and their panoptic quality by panopticapi (the original
code, PyPI `panopticapi-lite`), as the JSON of crates/detr-eval/testdata/panoptic_sets.json.

    pip install panopticapi-lite pillow numpy
    python benches/peers/panoptic_sets.py > crates/detr-eval/testdata/panoptic_sets.json

A picture is a text of one letter for each pixel, "." for void. A letter's id is (number of the letter + 1) * 70001 modulo
2^24, as in the test.
"""

import contextlib
import io
import json
import os
import tempfile

import numpy as np
from panopticapi.evaluation import PQStat, pq_compute_single_core
from PIL import Image

LETTERS = "abcdefghijklmnopqrstuvwxyz"
HEIGHT, WIDTH = 7, 10


def ident(letter):
    return (LETTERS.index(letter) + 1) * 70001 % (1 << 24)


def picture(random, parts):
    """Some rectangles over each other; the rest stays void."""
    grid = np.full((HEIGHT, WIDTH), ".")
    for letter in LETTERS[:parts]:
        y, x = random.integers(0, HEIGHT - 1), random.integers(0, WIDTH - 1)
        h, w = random.integers(1, HEIGHT - y + 1), random.integers(1, WIDTH - x + 1)
        grid[y : y + h, x : x + w] = letter
    return grid


def segments(random, grid, categories, crowds):
    found = []
    for letter in sorted(set(grid.flatten()) - {"."}):
        crowd = int(crowds and random.random() < 0.25)
        found.append([letter, int(random.choice(categories)), crowd])
    return found


def one_set(random):
    n = int(random.integers(2, 6))
    categories = [[int(i) + 1, int(random.random() < 0.6)] for i in range(n)]
    ids = [category[0] for category in categories]
    images = []
    for _ in range(int(random.integers(1, 4))):
        truth = picture(random, int(random.integers(0, 7)))
        # Half of the predictions are the truth with other rectangles over it.
        found = truth.copy() if random.random() < 0.6 else picture(random, int(random.integers(0, 7)))
        for letter in "xyz"[: int(random.integers(0, 4))]:
            y, x = random.integers(0, HEIGHT - 1), random.integers(0, WIDTH - 1)
            found[y : y + random.integers(1, 4), x : x + random.integers(1, 4)] = letter
        of_truth = segments(random, truth, ids, True)
        known = {letter: category for letter, category, _ in of_truth}
        of_found = [
            [letter, known[letter] if letter in known and random.random() < 0.8 else category]
            for letter, category, _ in segments(random, found, ids, False)
        ]
        text = lambda grid: "".join(grid.flatten())
        images.append([text(truth), of_truth, text(found), of_found])
    return {"categories": categories, "images": images}


def write(folder, name, grid):
    grid = np.array(list(grid)).reshape(HEIGHT, WIDTH)
    ids = np.vectorize(lambda letter: 0 if letter == "." else ident(letter))(grid)
    rgb = np.stack([ids & 255, ids >> 8 & 255, ids >> 16], axis=-1).astype(np.uint8)
    Image.fromarray(rgb).save(os.path.join(folder, name))


def numbers(data):
    categories = {i: {"id": i, "isthing": thing} for i, thing in data["categories"]}
    with tempfile.TemporaryDirectory() as folder:
        pairs = []
        for at, (truth, of_truth, found, of_found) in enumerate(data["images"]):
            write(folder, f"t{at}.png", truth)
            write(folder, f"p{at}.png", found)
            info = lambda segment, grid: {
                "id": ident(segment[0]),
                "category_id": segment[1],
                "iscrowd": segment[2] if len(segment) > 2 else 0,
                "area": grid.count(segment[0]),
            }
            pairs.append(
                (
                    {"image_id": at, "file_name": f"t{at}.png", "segments_info": [info(s, truth) for s in of_truth]},
                    {"image_id": at, "file_name": f"p{at}.png", "segments_info": [info(s, found) for s in of_found]},
                )
            )
        with contextlib.redirect_stdout(io.StringIO()):
            stat = pq_compute_single_core(0, pairs, folder, folder, categories)
    total = PQStat()
    total += stat
    result = {}
    for name, isthing in [("all", None), ("things", True), ("stuff", False)]:
        try:
            average, classes = total.pq_average(categories, isthing=isthing)
            result[name] = [average["pq"], average["sq"], average["rq"], average["n"]]
            if name == "all":
                result["classes"] = {str(i): [c["pq"], c["sq"], c["rq"]] for i, c in classes.items()}
        except ZeroDivisionError:
            result[name] = None
            if name == "all":
                result["classes"] = {}
    return result


random = np.random.default_rng(7)
sets = []
while len(sets) < 200:
    data = one_set(random)
    sets.append({**data, "expected": numbers(data)})
lines = ",\n".join(json.dumps(one, separators=(",", ":")) for one in sets)
print(f'{{"height":{HEIGHT},"width":{WIDTH},"sets":[\n{lines}\n]}}')
