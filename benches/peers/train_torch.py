#!/usr/bin/env python3
"""Times whole training steps in PyTorch, eager mode, as the counterpart of `cargo xtask bench train`.

The models are transformers' DetrForObjectDetection and DeformableDetrForObjectDetection with random
weights, the losses their own (Hungarian matching by scipy, auxiliary losses of all layers, but none of a
two-stage model's proposals); then clipping at 0.1 and AdamW in the references' groups. As there, stem and
first stage of the backbone are frozen. In half precision the step is PyTorch's automatic mixed one, in f16
with scaled losses. Prints one line of JSON.

Usage: train_torch.py --model deformable-detr-tiny --height 480 --width 640 [--batch-size 2] [--runs 5] ...
"""

import argparse
import json
import os
import platform
import sys
import time

import detr_torch
from timing import cpu_name, peak_memory_mb, summary

try:
    import torch
    import transformers
    from transformers import DeformableDetrForObjectDetection, DetrForObjectDetection
except ImportError as error:
    sys.exit(f"error: {error}\nhint: pip install torch transformers scipy")

TINY = detr_torch.TINY
DROPOUT = {"dropout": 0.1, "attention_dropout": 0.1, "activation_dropout": 0.1}


def parse_args():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    models = [TINY, *detr_torch.RESNETS, *detr_torch.DEFORMABLE]
    parser.add_argument("--model", choices=sorted(models), default=TINY)
    parser.add_argument("--height", type=int, default=800)
    parser.add_argument("--width", type=int, default=1066)
    parser.add_argument("--batch-size", type=int, default=1)
    parser.add_argument("--objects", type=int, default=7)
    parser.add_argument("--dtype", choices=sorted(detr_torch.DTYPES), default="f32")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--attention", choices=["sdpa", "eager"], default="sdpa")
    parser.add_argument("--compile", action="store_true", help="torch.compile")
    parser.add_argument("--tf32", action="store_true", help="TF32 in the products of f32, on a GPU")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--warmup", type=int, default=2)
    parser.add_argument("--runs", type=int, default=5)
    args = parser.parse_args()
    for name in ("height", "width", "batch_size", "threads", "runs"):
        if getattr(args, name) < 1:
            parser.error(f"--{name.replace('_', '-')} must be at least 1")
    return args


def build(args):
    torch.manual_seed(1)
    if args.model == TINY:
        model = DeformableDetrForObjectDetection(detr_torch.tiny_config(auxiliary_loss=True))
    elif args.model in detr_torch.DEFORMABLE:
        config = detr_torch.deformable_config(args.model, auxiliary_loss=True, **DROPOUT)
        model = DeformableDetrForObjectDetection(config)
    else:
        config = detr_torch.detr_config(args.model, args.attention, auxiliary_loss=True, **DROPOUT)
        model = DetrForObjectDetection(config)
    if args.model.endswith("-dc5"):
        detr_torch.dilate(model)
    freeze(model)
    model = model.train().to(args.device)
    if args.compile:
        model.compile()
    return model


def freeze(model):
    """transformers freezes by the names that other ResNets have, so it freezes all of its own."""
    for name, parameter in model.model.backbone.named_parameters():
        trained = any(f"encoder.stages.{stage}." in name for stage in (1, 2, 3))
        parameter.requires_grad_(trained)


def optimizer(model, name):
    """Groups and rates of the references' main.py."""
    rate = 2e-4 if "deformable" in name else 1e-4
    groups = {"rest": (rate, []), "backbone": (rate / 10, []), "sampling": (rate / 10, [])}
    for parameter_name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        if "backbone" in parameter_name:
            group = "backbone"
        elif "reference_points" in parameter_name or "sampling_offsets" in parameter_name:
            group = "sampling"
        else:
            group = "rest"
        groups[group][1].append(parameter)
    groups = [{"params": parameters, "lr": rate} for rate, parameters in groups.values() if parameters]
    return torch.optim.AdamW(groups, weight_decay=1e-4)


def labels(args):
    """The boxes of `cargo xtask bench train`."""
    found = []
    for seed in range(1, args.batch_size + 1):
        boxes = []
        for i in range(args.objects):
            at = seed * 1000 + i
            w, h = 0.1 + 0.3 * (at * 0.754877666 % 1), 0.1 + 0.3 * (at * 0.569840291 % 1)
            boxes.append(
                [
                    w / 2 + (1 - w) * (at * 0.618033989 % 1),
                    h / 2 + (1 - h) * (at * 0.414213562 % 1),
                    w,
                    h,
                ]
            )
        found.append(
            {
                "class_labels": torch.zeros(args.objects, dtype=torch.int64, device=args.device),
                "boxes": torch.tensor(boxes, device=args.device).reshape(-1, 4),
            }
        )
    return found


def measure(model, args):
    wait = torch.cuda.synchronize if args.device == "cuda" else (lambda: None)
    dtype = detr_torch.DTYPES[args.dtype]
    half = dtype != torch.float32
    scaler = torch.amp.GradScaler(args.device, enabled=args.dtype == "f16")
    pixels = torch.randn(args.batch_size, 3, args.height, args.width, device=args.device)
    mask = torch.ones(args.batch_size, args.height, args.width, dtype=torch.int64, device=args.device)
    targets = labels(args)
    update = optimizer(model, args.model)
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    stages = {"gradients": [], "update": [], "total": []}
    for run in range(args.warmup + args.runs):
        wait()
        start = time.perf_counter()
        with torch.autocast(args.device, dtype=dtype, enabled=half):
            loss = model(pixel_values=pixels, pixel_mask=mask, labels=targets).loss
        update.zero_grad(set_to_none=True)
        scaler.scale(loss).backward()
        wait()
        between = time.perf_counter()
        scaler.unscale_(update)
        torch.nn.utils.clip_grad_norm_(parameters, 0.1)
        scaler.step(update)
        scaler.update()
        # As both references do: a loss that is not finite ends the training.
        finite = torch.isfinite(loss).item()
        wait()
        end = time.perf_counter()
        if not finite:
            sys.exit("error: the loss is not finite")
        if run < args.warmup:
            continue
        stages["gradients"].append((between - start) * 1000)
        stages["update"].append((end - between) * 1000)
        stages["total"].append((end - start) * 1000)
    return stages


def main():
    args = parse_args()
    if args.device == "cuda" and not torch.cuda.is_available():
        sys.exit("error: this PyTorch finds no CUDA device\nhint: use --device cpu")
    torch.set_num_threads(args.threads)
    detr_torch.allow_tf32(args.tf32)
    model = build(args)
    stages = measure(model, args)
    parameters = list(model.parameters())
    result = {
        "model": args.model,
        "backend": f"pytorch-{args.device}",
        "dtype": args.dtype,
        "height": args.height,
        "width": args.width,
        "batch_size": args.batch_size,
        "objects": args.objects,
        "runs": args.runs,
        "warmup": args.warmup,
        "stages_ms": {name: summary(times) for name, times in stages.items()},
        "parameters": sum(parameter.numel() for parameter in parameters),
        "trained_parameters": sum(parameter.numel() for parameter in parameters if parameter.requires_grad),
        "peak_memory_mb": peak_memory_mb(),
        "attention": model.config._attn_implementation,
        "compiled": args.compile,
        "tf32": args.tf32,
        "cpu": cpu_name(),
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
    }
    if args.device == "cuda":
        result["gpu"] = torch.cuda.get_device_name()
        result["peak_gpu_memory_mb"] = round(torch.cuda.max_memory_allocated() / 1e6, 1)
    print(json.dumps(result))


if __name__ == "__main__":
    main()
