#!/usr/bin/env python3
"""Times DETR and Deformable DETR in PyTorch, eager mode, as the counterpart of `cargo xtask bench infer`.

The models are transformers' DetrForObjectDetection and DeformableDetrForObjectDetection, built from
configurations with random weights: nothing is downloaded, and the time hardly depends on the
numbers. Without a CUDA extension, the latter samples with `grid_sample`. Prints one line of JSON with
the stages:

  backbone     ResNet and position encoding
  transformer  encoder, decoder and heads
  model        both
  postprocess  softmax and best class (sigmoid and top 100), boxes in pixels, copied to the host
  total        the three together, without the picture's way into the model

Usage: detr_torch.py --model detr-r50 --height 800 --width 1066 [--runs 7] [--threads 2] ...
"""

import argparse
import json
import os
import platform
import sys
import time

from timing import cpu_name, peak_memory_mb, summary

os.environ["HF_HUB_OFFLINE"] = "1"

try:
    import torch
    import transformers
    from transformers import DeformableDetrConfig, DeformableDetrForObjectDetection
    from transformers import DetrConfig, DetrForObjectDetection, ResNetConfig
except ImportError as error:
    sys.exit(f"error: {error}\nhint: pip install torch transformers")

RESNETS = {
    "detr-r18": {"layer_type": "basic", "depths": [2, 2, 2, 2], "hidden_sizes": [64, 128, 256, 512]},
    "detr-r50": {"layer_type": "bottleneck", "depths": [3, 4, 6, 3], "hidden_sizes": [256, 512, 1024, 2048]},
    "detr-r101": {"layer_type": "bottleneck", "depths": [3, 4, 23, 3], "hidden_sizes": [256, 512, 1024, 2048]},
}
RESNETS["detr-r50-dc5"] = RESNETS["detr-r50"]
# Feature levels, box refinement, two stages; the backbone is ResNet-50.
DEFORMABLE = {
    "deformable-detr-r50": (4, False, False),
    "deformable-detr-r50-refine": (4, True, False),
    "deformable-detr-r50-two-stage": (4, True, True),
    "deformable-detr-r50-single-scale": (1, False, False),
    "deformable-detr-r50-single-scale-dc5": (1, False, False),
}
TINY = "deformable-detr-tiny"
DTYPES = {"f32": torch.float32, "f16": torch.float16, "bf16": torch.bfloat16}


def parse_args():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", choices=sorted([TINY, *RESNETS, *DEFORMABLE]), default="detr-r50")
    parser.add_argument("--height", type=int, default=800)
    parser.add_argument("--width", type=int, default=1066)
    parser.add_argument("--batch-size", type=int, default=1)
    parser.add_argument("--dtype", choices=sorted(DTYPES), default="f32")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--attention", choices=["sdpa", "eager"], default="sdpa")
    parser.add_argument("--compile", action="store_true", help="torch.compile, without stages")
    parser.add_argument("--tf32", action="store_true", help="TF32 in the products of f32, on a GPU")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--warmup", type=int, default=2)
    parser.add_argument("--runs", type=int, default=7)
    args = parser.parse_args()
    for name in ("height", "width", "batch_size", "threads", "runs"):
        if getattr(args, name) < 1:
            parser.error(f"--{name.replace('_', '-')} must be at least 1")
    return args


def build(args):
    torch.manual_seed(1)
    if args.model == TINY:
        model = DeformableDetrForObjectDetection(tiny_config())
    elif args.model in DEFORMABLE:
        model = DeformableDetrForObjectDetection(deformable_config(args.model))
    else:
        model = DetrForObjectDetection(detr_config(args.model, args.attention))
    if args.model.endswith("-dc5"):
        dilate(model)
    return model.eval().to(args.device, DTYPES[args.dtype])


def dilate(model):
    """The last stage of the ResNet at the resolution of the third; transformers' own has no such switch."""
    backbone = model.model.backbone
    stage = next(module for name, module in backbone.named_modules() if name.endswith("encoder.stages.3"))
    for index, block in enumerate(stage.layers):
        for convolution in block.modules():
            if isinstance(convolution, torch.nn.Conv2d):
                convolution.stride = (1, 1)
                if convolution.kernel_size == (3, 3) and index > 0:
                    convolution.dilation = convolution.padding = (2, 2)


def deformable_config(model, **changes):
    levels, refine, two_stage = DEFORMABLE[model]
    stages = ["stage4"] if levels == 1 else ["stage2", "stage3", "stage4"]
    return DeformableDetrConfig(
        use_timm_backbone=False,
        use_pretrained_backbone=False,
        backbone=None,
        backbone_config=ResNetConfig(embedding_size=64, out_features=stages, **RESNETS["detr-r50"]),
        num_labels=91,
        num_queries=300,
        two_stage_num_proposals=300,
        d_model=256,
        num_feature_levels=levels,
        with_box_refine=refine,
        two_stage=two_stage,
        **changes,
    )


def tiny_config(**changes):
    """The sizes of configs/models/deformable-detr-tiny.toml."""
    backbone = ResNetConfig(
        layer_type="basic",
        embedding_size=16,
        depths=[1, 1, 1, 1],
        hidden_sizes=[16, 32, 64, 128],
        out_features=["stage2", "stage3", "stage4"],
    )
    return DeformableDetrConfig(
        use_timm_backbone=False,
        use_pretrained_backbone=False,
        backbone=None,
        backbone_config=backbone,
        num_labels=91,
        num_queries=50,
        d_model=64,
        encoder_attention_heads=4,
        decoder_attention_heads=4,
        encoder_layers=2,
        decoder_layers=3,
        encoder_ffn_dim=256,
        decoder_ffn_dim=256,
        num_feature_levels=3,
        with_box_refine=True,
        dropout=0.0,
        **changes,
    )


def detr_config(model, attention, **changes):
    backbone = ResNetConfig(embedding_size=64, out_features=["stage4"], **RESNETS[model])
    return DetrConfig(
        use_timm_backbone=False,
        use_pretrained_backbone=False,
        backbone=None,
        backbone_config=backbone,
        num_labels=91,
        num_queries=100,
        d_model=256,
        attn_implementation={"": attention, "backbone_config": "eager"},
        **changes,
    )


class Clock:
    """Stage boundaries of one forward pass."""

    def __init__(self, device):
        self.wait = torch.cuda.synchronize if device == "cuda" else (lambda: None)
        self.marks = []

    def mark(self, *_):
        self.wait()
        self.marks.append(time.perf_counter())


def postprocess(model, output, height, width):
    """Scores, labels and boxes as `(x1, y1, x2, y2)` in pixels, as the models' own post-processing."""
    logits, boxes = output.logits.float(), output.pred_boxes.float()
    if model.startswith("deformable"):
        scores, pairs = logits.sigmoid().flatten(1).topk(100)
        queries = pairs // logits.shape[-1]
        labels = pairs % logits.shape[-1]
        boxes = boxes.gather(1, queries.unsqueeze(-1).expand(-1, -1, 4))
    else:
        scores, labels = logits.softmax(-1)[..., :-1].max(-1)
    cx, cy, w, h = boxes.unbind(-1)
    boxes = torch.stack((cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2), -1)
    boxes = boxes * torch.tensor([width, height, width, height], device=boxes.device)
    return scores.cpu(), labels.cpu(), boxes.cpu()


def measure(model, args):
    pixels = torch.randn(
        args.batch_size, 3, args.height, args.width, device=args.device, dtype=DTYPES[args.dtype]
    )
    mask = torch.ones(args.batch_size, args.height, args.width, dtype=torch.int64, device=args.device)
    clock = Clock(args.device)
    if args.compile:
        model.compile()
    else:
        model.model.backbone.register_forward_hook(clock.mark)
    stages = {"backbone": [], "transformer": [], "model": [], "postprocess": [], "total": []}
    with torch.no_grad():
        for run in range(args.warmup + args.runs):
            clock.marks.clear()
            clock.mark()
            output = model(pixel_values=pixels, pixel_mask=mask)
            clock.mark()
            postprocess(args.model, output, args.height, args.width)
            clock.mark()
            if run < args.warmup:
                continue
            start, *backbone, forward, end = clock.marks
            for backbone in backbone:
                stages["backbone"].append((backbone - start) * 1000)
                stages["transformer"].append((forward - backbone) * 1000)
            stages["model"].append((forward - start) * 1000)
            stages["postprocess"].append((end - forward) * 1000)
            stages["total"].append((end - start) * 1000)
    return {name: times for name, times in stages.items() if times}


def allow_tf32(allowed):
    torch.backends.cuda.matmul.allow_tf32 = allowed
    torch.backends.cudnn.allow_tf32 = allowed


def main():
    args = parse_args()
    if args.device == "cuda" and not torch.cuda.is_available():
        sys.exit("error: this PyTorch finds no CUDA device\nhint: use --device cpu")
    torch.set_num_threads(args.threads)
    allow_tf32(args.tf32)
    model = build(args)
    stages = measure(model, args)
    result = {
        "model": args.model,
        "backend": f"pytorch-{args.device}",
        "dtype": args.dtype,
        "height": args.height,
        "width": args.width,
        "batch_size": args.batch_size,
        "runs": args.runs,
        "stages_ms": {name: summary(times) for name, times in stages.items()},
        "peak_memory_mb": peak_memory_mb(),
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
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
