#!/usr/bin/env python3
"""Times multi-scale deformable attention in PyTorch, the counterpart of `cargo xtask bench msda`.

PyTorch has no such operation; where its CUDA extension is not built, models sample each level by
grid_sample and sum, which is what is measured here, forward alone and forward with all three
gradients. Sizes and kinds of points are those of `cargo xtask bench msda`; the numbers are random, since the
time depends on where points are and not on what is there. Prints one line of JSON.

Usage: msda_torch.py [--dtype f32] [--device cpu] [--threads 2] [--runs 9] [--warmup 2] [--only TEXT]
"""

import argparse
import json
import os
import platform
import statistics
import sys
import time

try:
    import torch
    from torch.nn.functional import grid_sample
except ImportError as error:
    sys.exit(f"error: {error}\nhint: pip install torch")

LEVELS = [(100, 134), (50, 67), (25, 34), (13, 17)]
HEADS, CHANNELS, POINTS = 8, 32, 4
NEAR = 4.0
# Name, queries (one for each cell if none), points near their query or anywhere.
CASES = [
    ("encoder, near", None, True),
    ("encoder, anywhere", None, False),
    ("decoder, near", 300, True),
    ("decoder, anywhere", 300, False),
]
DTYPES = {"f32": torch.float32, "f16": torch.float16, "bf16": torch.bfloat16}


def parse_args():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dtype", choices=sorted(DTYPES), default="f32")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--warmup", type=int, default=2)
    parser.add_argument("--runs", type=int, default=9)
    parser.add_argument("--only", default="")
    args = parser.parse_args()
    if args.threads < 1 or args.runs < 1:
        parser.error("--threads and --runs must be at least 1")
    if not any(args.only in name for name, _, _ in CASES):
        parser.error("--only is part of no case's name: " + "; ".join(name for name, _, _ in CASES))
    return args


def msda(value, locations, weights):
    """`[B, S, M, D]`, `[B, Q, M, L, P, 2]`, `[B, Q, M, L, P]` to `[B, Q, M * D]`."""
    b, _, m, d = value.shape
    q = locations.shape[1]
    grids = 2 * locations - 1
    samples = []
    maps = value.split([h * w for h, w in LEVELS], dim=1)
    for level, ((h, w), cells) in enumerate(zip(LEVELS, maps)):
        image = cells.permute(0, 2, 3, 1).reshape(b * m, d, h, w)
        grid = grids[:, :, :, level].transpose(1, 2).reshape(b * m, q, POINTS, 2)
        samples.append(grid_sample(image, grid, align_corners=False))
    samples = torch.cat(samples, dim=-1)
    weights = weights.transpose(1, 2).reshape(b * m, 1, q, len(LEVELS) * POINTS)
    return (samples * weights).sum(-1).view(b, m * d, q).transpose(1, 2).contiguous()


def inputs(queries, near, args):
    cells = [
        ((i % w + 0.5) / w, (i // w + 0.5) / h) for h, w in LEVELS for i in range(h * w)
    ]
    s = len(cells)
    q = queries or s
    dtype, device = DTYPES[args.dtype], args.device
    uniform = torch.rand(1, q, HEADS, len(LEVELS), POINTS, 2) * 2 - 1
    if near:
        centres = torch.tensor(cells)[:: s // q][:q].view(1, q, 1, 1, 1, 2)
        sides = torch.tensor(LEVELS).flip(1).view(1, 1, 1, len(LEVELS), 1, 2)
        locations = centres + NEAR * uniform / sides
    else:
        locations = 0.5 + 0.5 * uniform
    value = torch.rand(1, s, HEADS, CHANNELS) * 2 - 1
    weights = torch.rand(1, q, HEADS, len(LEVELS), POINTS) * 2 - 1
    return [tensor.to(device, dtype) for tensor in (value, locations, weights)]


def forward(tensors):
    with torch.no_grad():
        msda(*tensors)


def forward_backward(tensors):
    tensors = [tensor.detach().requires_grad_() for tensor in tensors]
    msda(*tensors).sum().backward()


def times(call, tensors, args):
    wait = torch.cuda.synchronize if args.device == "cuda" else (lambda: None)
    found = []
    for run in range(args.warmup + args.runs):
        wait()
        start = time.perf_counter()
        call(tensors)
        wait()
        if run >= args.warmup:
            found.append((time.perf_counter() - start) * 1000)
    found.sort()
    last = min(len(found) - 1, -(-95 * len(found) // 100) - 1)
    return {
        "ms": {
            "min": round(found[0], 3),
            "median": round(statistics.median(found), 3),
            "p95": round(found[last], 3),
        }
    }


def main():
    args = parse_args()
    if args.device == "cuda" and not torch.cuda.is_available():
        sys.exit("error: this PyTorch finds no CUDA device\nhint: use --device cpu")
    torch.set_num_threads(args.threads)
    torch.manual_seed(1)
    cases = []
    for name, queries, near in CASES:
        if args.only in name:
            tensors = inputs(queries, near, args)
            cases.append(
                {
                    "name": name,
                    "forward": times(forward, tensors, args),
                    "forward_backward": times(forward_backward, tensors, args),
                }
            )
    result = {
        "backend": f"pytorch-{args.device}",
        "dtype": args.dtype,
        "runs": args.runs,
        "cases": cases,
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "torch": torch.__version__,
    }
    if args.device == "cuda":
        result["gpu"] = torch.cuda.get_device_name()
    print(json.dumps(result))


if __name__ == "__main__":
    main()
