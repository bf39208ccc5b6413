"""Times detr, faster-table-recognizer and transformers on one Table Transformer for detection with random weights.

    python benches/peers/table_transformer_engines.py target/release/detr-infer [rounds] [images]

Needs torch, transformers, timm, pillow and faster-table-recognizer (PyPI). Every round runs each engine in a process of
its own over the same generated page of 619x800 pixels, first once, then as often as `images` says; the time of an
image is the difference, so that start and loading don't count. Decoding and resizing do. Prints one JSON object.
"""

import json
import os
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

FASTER = """
import sys
from faster_table_recognizer import TableRecognizer
engine = TableRecognizer(sys.argv[1] + "/model.safetensors", 0.5)
page = open(sys.argv[2], "rb").read()
for _ in range(int(sys.argv[3])):
    engine.detect(page)
"""

TRANSFORMERS = """
import sys
import torch
from PIL import Image
from transformers import AutoImageProcessor, TableTransformerForObjectDetection
torch.set_num_threads(2)
processor = AutoImageProcessor.from_pretrained(sys.argv[1])
model = TableTransformerForObjectDetection.from_pretrained(sys.argv[1]).eval()
with torch.inference_mode():
    for _ in range(int(sys.argv[3])):
        page = Image.open(sys.argv[2]).convert("RGB")
        outputs = model(**processor(images=page, return_tensors="pt"))
        processor.post_process_object_detection(outputs, 0.5, target_sizes=[page.size[::-1]])
"""


def write_model(folder):
    import torch
    from transformers import DetrImageProcessor, TableTransformerConfig, TableTransformerForObjectDetection

    torch.manual_seed(0)
    names = {0: "table", 1: "table rotated"}
    config = TableTransformerConfig(
        backbone="resnet18", use_timm_backbone=True, use_pretrained_backbone=False, num_queries=15, id2label=names, label2id={n: i for i, n in names.items()}
    )
    TableTransformerForObjectDetection(config).save_pretrained(folder)
    size = {"shortest_edge": 800, "longest_edge": 800}
    DetrImageProcessor(size=size).save_pretrained(folder)


def write_page(path):
    from PIL import Image, ImageDraw

    random.seed(0)
    page = Image.new("RGB", (619, 800), "white")
    draw = ImageDraw.Draw(page)
    for y in range(60, 740, 14):
        x = 60
        while x < 560:
            width = random.randrange(8, 50)
            draw.rectangle((x, y, x + width, y + 5), fill=(40, 40, 40))
            x += width + 6
    draw.rectangle((60, 300, 560, 520), outline="black", width=2)
    page.save(path)


def seconds(command):
    start = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return time.perf_counter() - start


def main():
    ours = sys.argv[1]
    rounds = int(sys.argv[2]) if len(sys.argv) > 2 else 5
    images = int(sys.argv[3]) if len(sys.argv) > 3 else 8
    with tempfile.TemporaryDirectory() as folder:
        model, page = Path(folder) / "model", Path(folder) / "page.png"
        write_model(model)
        write_page(page)
        pages = [page]
        for number in range(images):
            pages.append(page.with_name(f"page-{number}.png"))
            shutil.copy(page, pages[-1])

        def command(engine, count):
            if engine == "detr":
                return [*ours.split(), "--backend", "flex", "--model", model, *pages[:count]]
            script = {"faster-table-recognizer": FASTER, "transformers": TRANSFORMERS}[engine]
            return [sys.executable, "-c", script, model, page, str(count)]

        os.environ["RAYON_NUM_THREADS"] = "2"
        times = {engine: [] for engine in ["detr", "faster-table-recognizer", "transformers"]}
        for _ in range(rounds):
            for engine, found in times.items():
                once = seconds(command(engine, 1))
                found.append((seconds(command(engine, images + 1)) - once) / images)
    print(json.dumps({engine: {"median_s": round(statistics.median(t), 4), "all": [round(x, 4) for x in t]} for engine, t in times.items()}))


main()
