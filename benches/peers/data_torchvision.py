"""Times the training augmentation of DETR on one core with torchvision and Pillow.

    python benches/peers/data_torchvision.py [--seconds N] IMAGE...

The transform is that of the paper's training recipe, composed of torchvision's functions on Pillow
images, with boxes and areas: a flip, then either a resize or resize, crop and resize, then ToTensor
and Normalize. Prints images per second of processor time as JSON, with the share of each step. Our
side is `cargo xtask bench augment`. Needs torch, torchvision and Pillow.
"""

import argparse
import io
import json
import random
import time
from pathlib import Path

import torch
import torchvision.transforms.functional as F
from PIL import Image

SHORT_SIDES = list(range(480, 801, 32))
MEAN, STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]


def target_size(width, height, short, longest):
    low, high = min(width, height), max(width, height)
    if longest is not None and high / low * short > longest:
        short = round(longest * low / high)
    if low == short:
        return height, width
    long = int(short * high / low)
    return (long, short) if width < height else (short, long)


def resize(image, target, short, longest):
    width, height = image.size
    resized = F.resize(image, target_size(width, height, short, longest))
    x, y = resized.width / width, resized.height / height
    target["boxes"] = target["boxes"] * torch.as_tensor([x, y, x, y])
    target["area"] = target["area"] * (x * y)
    return resized


def crop(image, target, low, high):
    width = random.randint(low, min(image.width, high))
    height = random.randint(low, min(image.height, high))
    top = random.randint(0, image.height - height)
    left = random.randint(0, image.width - width)
    boxes = target["boxes"] - torch.as_tensor([left, top, left, top])
    corners = torch.min(boxes.reshape(-1, 2, 2), torch.as_tensor([width, height])).clamp(min=0)
    keep = (corners[:, 1] > corners[:, 0]).all(dim=1)
    target["area"] = (corners[:, 1] - corners[:, 0]).prod(dim=1)[keep]
    target["boxes"] = corners.reshape(-1, 4)[keep]
    target["labels"] = target["labels"][keep]
    return F.crop(image, top, left, height, width)


def augment(image, target):
    if random.random() < 0.5:
        image = F.hflip(image)
        boxes = target["boxes"][:, [2, 1, 0, 3]] * torch.as_tensor([-1, 1, -1, 1])
        target["boxes"] = boxes + torch.as_tensor([image.width, 0, image.width, 0])
    if random.random() >= 0.5:
        image = resize(image, target, random.choice([400, 500, 600]), None)
        image = crop(image, target, 384, 600)
    return resize(image, target, random.choice(SHORT_SIDES), 1333)


def normalize(image, target):
    pixels = F.normalize(F.to_tensor(image), mean=MEAN, std=STD)
    x1, y1, x2, y2 = target["boxes"].unbind(-1)
    boxes = torch.stack([(x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1], dim=-1)
    height, width = pixels.shape[-2:]
    target["boxes"] = boxes / torch.tensor([width, height, width, height], dtype=torch.float32)
    return pixels


def new_target(width, height):
    """Eight objects, as an image of COCO has on average."""
    boxes = torch.tensor([[30.0 * i, 20.0 * i, 30.0 * i + 100, 20.0 * i + 120] for i in range(8)])
    boxes[:, 0::2].clamp_(min=0, max=width)
    boxes[:, 1::2].clamp_(min=0, max=height)
    return {"boxes": boxes, "labels": torch.ones(8, dtype=torch.int64), "area": torch.full((8,), 12000.0)}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("images", nargs="+", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    random.seed(0)
    files = [path.read_bytes() for path in arguments.images]
    spent, images, pixels = [0.0, 0.0, 0.0], 0, 0
    start, cpu = time.perf_counter(), time.thread_time()
    while time.perf_counter() - start < arguments.seconds:
        begin = time.perf_counter()
        image = Image.open(io.BytesIO(files[images % len(files)])).convert("RGB")
        decoded = time.perf_counter()
        target = new_target(*image.size)
        image = augment(image, target)
        augmented = time.perf_counter()
        tensor = normalize(image, target)
        end = time.perf_counter()
        for step, seconds in enumerate((decoded - begin, augmented - decoded, end - augmented)):
            spent[step] += seconds
        pixels += tensor.shape[1] * tensor.shape[2]
        images += 1
    # Shares by the clock, the whole by processor time: other programs then disturb less.
    scale = 1e3 * (time.thread_time() - cpu) / sum(spent) / images
    decode, augmented, normalized = (scale * seconds for seconds in spent)
    total = decode + augmented + normalized
    print(json.dumps({
        "images_per_second": round(1e3 / total, 1),
        "without_decoding": round(1e3 / (total - decode), 1),
        "ms": {"decode": round(decode, 2), "augment": round(augmented, 2), "normalize": round(normalized, 2)},
        "megapixels": round(pixels / images / 1e6, 3),
    }))


main()
