"""Writes the golden case `04_detr/demo`: the demonstration model of the DETR paper, written again
on torchvision and torch.nn.Transformer, with recipe weights, in f64 and f32.

    python benches/peers/demo_reference.py tests/golden/04_detr

Needs torch, torchvision, numpy and safetensors. The recipe is that of tests/golden/README.md.
"""

import json
import sys
from pathlib import Path

import numpy as np
import torch
from safetensors.numpy import save_file
from torch import nn
from torchvision.models import resnet50

MASK = (1 << 64) - 1
SEED, IMAGE_SEEDS, SIZE = 77, [1501, 1502], (192, 224)
QUERIES, CLASSES, WIDTH, HEADS, ENCODER, DECODER = 20, 91, 256, 8, 2, 2


def stream(name, seed, count):
    state = 0xCBF29CE484222325
    for byte in name.encode():
        state = ((state ^ byte) * 0x100000001B3) & MASK
    z = np.arange(1, count + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15) + np.uint64(state ^ seed)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    z ^= z >> np.uint64(31)
    return (z >> np.uint64(40)).astype(np.float64) * 2.0**-23 - 1.0


def weight(name, shape):
    if name.endswith("running_var"):
        offset, scale = 1.0, 0.5
    elif name.endswith("running_mean"):
        offset, scale = 0.0, 0.1
    elif len(shape) == 1 and name.endswith("bn3.weight"):
        offset, scale = 0.25, 0.125
    elif len(shape) == 1 and name.endswith(".weight"):
        offset, scale = 1.0, 0.5
    elif len(shape) == 1:
        offset, scale = 0.0, 0.1
    else:
        offset, scale = 0.0, (3.0 / np.prod(shape[1:])) ** 0.5
    values = offset + scale * stream(name, SEED, int(np.prod(shape)))
    return torch.from_numpy(values.astype(np.float32).reshape(shape))


def wave(t):
    t = t - np.floor(t)
    return np.where(t < 0.5, 16 * t * (0.5 - t), -16 * (t - 0.5) * (1 - t))


def image(seed, h, w):
    y, x = np.mgrid[0:h, 0:w].astype(np.float64)
    noise = stream("image", seed, 3 * h * w).reshape(3, h, w)
    planes = []
    for c in range(3):
        t1 = x * ((3 + c) / 128) + y * ((2 + c) / 256) + c / 8 + (seed % 16) / 16
        t2 = x * (1 / 64) - y * ((3 + 2 * c) / 128) + c / 4
        planes.append((0.9 * wave(t1) + 0.6 * wave(t2)) + 0.5 * noise[c])
    return torch.from_numpy(np.stack(planes).astype(np.float32))


class Demo(nn.Module):
    def __init__(self):
        super().__init__()
        self.backbone = resnet50()
        del self.backbone.fc
        self.conv = nn.Conv2d(2048, WIDTH, 1)
        self.transformer = nn.Transformer(WIDTH, HEADS, ENCODER, DECODER)
        self.linear_class = nn.Linear(WIDTH, CLASSES + 1)
        self.linear_bbox = nn.Linear(WIDTH, 4)
        self.query_pos = nn.Parameter(torch.rand(QUERIES, WIDTH))
        self.row_embed = nn.Parameter(torch.rand(50, WIDTH // 2))
        self.col_embed = nn.Parameter(torch.rand(50, WIDTH // 2))

    def forward(self, images):
        b = self.backbone
        x = b.maxpool(b.relu(b.bn1(b.conv1(images))))
        x = self.conv(b.layer4(b.layer3(b.layer2(b.layer1(x)))))
        h, w = x.shape[-2:]
        columns = self.col_embed[:w].expand(h, w, -1)
        rows = self.row_embed[:h, None].expand(h, w, -1)
        position = torch.cat([columns, rows], -1).reshape(h * w, 1, WIDTH)
        tokens = position + 0.1 * x.flatten(2).permute(2, 0, 1)
        queries = self.query_pos[:, None].expand(-1, images.shape[0], -1)
        hidden = self.transformer(tokens, queries).transpose(0, 1)
        return self.linear_class(hidden), self.linear_bbox(hidden).sigmoid()


def main(folder):
    model = Demo().eval()
    names = {name: tensor.shape for name, tensor in model.state_dict().items() if "num_batches" not in name}
    model.load_state_dict({name: weight(name, tuple(shape)) for name, shape in names.items()}, strict=False)
    images = torch.stack([image(seed, *SIZE) for seed in IMAGE_SEEDS])
    with torch.no_grad():
        single = dict(zip(("pred_logits", "pred_boxes"), model(images)))
        double = dict(zip(("pred_logits", "pred_boxes"), model.double()(images.double())))
    tensors, facts = {}, {}
    for name, exact in double.items():
        error = (single[name].double() - exact).abs().max().item()
        largest = exact.abs().max().item()
        facts[name] = {
            "shape": list(exact.shape),
            "f32_vs_f64_max": error,
            "atol": max(6 * error, 2e-6 * largest, 1e-7),
        }
        tensors[name] = exact.float().numpy()
    config = {
        "demo": {
            "num_classes": CLASSES, "num_queries": QUERIES, "hidden_dim": WIDTH, "nheads": HEADS,
            "enc_layers": ENCODER, "dec_layers": DECODER, "dim_feedforward": 2048,
            "backbone": {"block": "bottleneck", "depths": [3, 4, 6, 3], "stem": 64, "widths": [64, 128, 256, 512]},
        },
        "weight_seed": SEED, "image_seeds": IMAGE_SEEDS, "sizes": [list(SIZE)] * len(IMAGE_SEEDS),
    }
    note = f"benches/peers/demo_reference.py with torch {torch.__version__}, f64 run"
    case = {"what": "the paper's demonstration model end to end", "made": note, "config": config, "tensors": facts}
    (Path(folder) / "demo.json").write_text(json.dumps(case, indent=1) + "\n")
    save_file(tensors, Path(folder) / "demo.safetensors")


main(sys.argv[1])
