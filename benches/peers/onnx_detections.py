#!/usr/bin/env python3
"""Detects in ONNX Runtime with a file of `detr export`, and writes results for `detr eval --results`.

    detr data synth shapes --count 200 --size 128x128
    detr export assets/shapes --output shapes.onnx --height 128 --width 128
    python benches/peers/onnx_detections.py shapes.onnx shapes/annotations.json shapes --card assets/shapes --output found.json
    detr eval --results found.json --data shapes/annotations.json

Images are resized to the size of the file, whatever their shape, with Pillow. `--card` is the folder of the model, whose
`model.json` has mean and deviation, ids of the classes and the way of scoring; without it they are ImageNet's, the labels
themselves and sigmoids. Needs numpy, onnxruntime and Pillow.
"""

import argparse
import json
import pathlib

import numpy as np
import onnxruntime
from PIL import Image

MOST = 100


def parse_args():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model")
    parser.add_argument("annotations", type=pathlib.Path)
    parser.add_argument("images", type=pathlib.Path)
    parser.add_argument("--card", type=pathlib.Path, help="folder of the model, with model.json")
    parser.add_argument("--output", type=pathlib.Path, required=True)
    parser.add_argument("--batch-size", type=int, default=4)
    parser.add_argument("--threads", type=int, default=1)
    return parser.parse_args()


def answers(logits, boxes, softmax):
    """Scores, labels and relative boxes of one image, as `detr predict` chooses them."""
    if softmax:
        odds = np.exp(logits - logits.max(axis=-1, keepdims=True))
        scores = (odds / odds.sum(axis=-1, keepdims=True))[:, :-1]
        labels = scores.argmax(axis=-1)
        return scores.max(axis=-1), labels, boxes
    scores = 1 / (1 + np.exp(-logits))
    order = np.argsort(-scores.reshape(-1), kind="stable")[:MOST]
    queries, labels = order // scores.shape[1], order % scores.shape[1]
    return scores.reshape(-1)[order], labels, boxes[queries]


def main():
    args = parse_args()
    card = json.loads((args.card / "model.json").read_text()) if args.card else {}
    spec = card.get("preprocess", {})
    mean = np.array(spec.get("mean", [0.485, 0.456, 0.406]), np.float32)
    std = np.array(spec.get("std", [0.229, 0.224, 0.225]), np.float32)
    ids = {entry["label"]: entry["id"] for entry in card.get("classes", {}).get("categories", [])}
    softmax = card.get("architecture", {}).get("kind", "deformable-detr") != "deformable-detr"

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = args.threads
    session = onnxruntime.InferenceSession(args.model, options, providers=["CPUExecutionProvider"])
    _, _, height, width = session.get_inputs()[0].shape

    def pixels(entry):
        image = Image.open(args.images / entry["file_name"]).convert("RGB")
        if image.size != (width, height):
            image = image.resize((width, height), Image.BILINEAR)
        return ((np.asarray(image, np.float32) / 255 - mean) / std).transpose(2, 0, 1)

    results = []
    entries = json.loads(args.annotations.read_text())["images"]
    for start in range(0, len(entries), args.batch_size):
        batch = entries[start : start + args.batch_size]
        inputs = np.stack([pixels(entry) for entry in batch])
        outputs = session.run(["pred_logits", "pred_boxes"], {"inputs": inputs})
        for entry, logits, boxes in zip(batch, *outputs):
            scale = np.array([entry["width"], entry["height"]] * 2, np.float32)
            for score, label, (cx, cy, w, h) in zip(*answers(logits, boxes * scale, softmax)):
                if ids and label not in ids:
                    continue
                box = [float(value) for value in (cx - w / 2, cy - h / 2, w, h)]
                category = ids.get(int(label), int(label))
                results.append(
                    {
                        "image_id": entry["id"],
                        "category_id": category,
                        "bbox": box,
                        "score": float(score),
                    }
                )
    args.output.write_text(json.dumps(results))
    print(f"{len(results)} detections in {len(entries)} images to {args.output}")


main()
