#!/usr/bin/env python3
"""Times DETR and Deformable DETR in ONNX Runtime, as the counterpart of `cargo xtask bench infer`.

The models of `detr_torch.py` are exported once for a model, size and batch, by a process of its own, so
that the memory of the one that measures is ONNX Runtime's alone. Sizes are fixed in the file, as the
runtime likes it best. Prints one line of JSON with the stage `model`: pictures to logits and boxes.

Usage: detr_onnx.py --model detr-r50 --height 800 --width 1066 --cache target/bench/onnx [--runs 7] ...
"""

import argparse
import json
import os
import pathlib
import platform
import subprocess
import sys
import time

from timing import cpu_name, peak_memory_mb, summary


def parse_args():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="detr-r50")
    parser.add_argument("--height", type=int, default=800)
    parser.add_argument("--width", type=int, default=1066)
    parser.add_argument("--batch-size", type=int, default=1)
    parser.add_argument("--dtype", choices=["f32", "f16"], default="f32")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--warmup", type=int, default=2)
    parser.add_argument("--runs", type=int, default=7)
    parser.add_argument("--cache", type=pathlib.Path, required=True, help="folder of exported models")
    parser.add_argument("--export", type=pathlib.Path, help="only write this file")
    args = parser.parse_args()
    for name in ("height", "width", "batch_size", "threads", "runs"):
        if getattr(args, name) < 1:
            parser.error(f"--{name.replace('_', '-')} must be at least 1")
    return args


def export(args):
    """Writes the model beside its place and then moves it there, so that a killed export leaves no half."""
    import detr_torch
    import onnxruntime
    import torch

    class Outputs(torch.nn.Module):
        def __init__(self, model):
            super().__init__()
            self.model = model

        def forward(self, pixels, mask):
            output = self.model(pixel_values=pixels, pixel_mask=mask)
            return output.logits, output.pred_boxes

    args.attention = "eager"
    model = Outputs(detr_torch.build(args)).eval()
    size = (args.height, args.width)
    pixels = torch.randn(args.batch_size, 3, *size, device=args.device, dtype=detr_torch.DTYPES[args.dtype])
    mask = torch.ones(args.batch_size, *size, dtype=torch.int64, device=args.device)
    part = args.export.with_suffix(".part")
    # The exporter's optimiser halves the work of some models and breaks others, which do not load then.
    for optimize in (True, False):
        with torch.no_grad():
            program = torch.onnx.export(model, (pixels, mask), dynamo=True, optimize=optimize, verbose=False)
        program.save(part, external_data=False)
        try:
            onnxruntime.InferenceSession(str(part), providers=["CPUExecutionProvider"])
            break
        except Exception as error:
            if not optimize:
                raise
            print(f"without the optimiser, since {error}", file=sys.stderr)
    part.rename(args.export)


def exported(args):
    name = f"{args.model}-{args.height}x{args.width}-{args.dtype}-batch-{args.batch_size}.onnx"
    path = args.cache.resolve() / name
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, __file__, *sys.argv[1:], "--export", str(path)]
        done = subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        if done.returncode != 0:
            sys.exit(f"error: the model cannot be exported\n{done.stderr[-2000:]}")
    return path


def measure(args):
    try:
        import numpy
        import onnxruntime
    except ImportError as error:
        sys.exit(f"error: {error}\nhint: pip install onnx onnxruntime onnxscript")
    provider = "CUDAExecutionProvider" if args.device == "cuda" else "CPUExecutionProvider"
    if provider not in onnxruntime.get_available_providers():
        sys.exit(f"error: this ONNX Runtime has no {provider}\nhint: use --device cpu")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = args.threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(str(exported(args)), options, providers=[provider])
    shape = (args.batch_size, args.height, args.width)
    numbers = numpy.random.default_rng(1)
    pixels = numbers.standard_normal((args.batch_size, 3, *shape[1:]), dtype=numpy.float32)
    given = [pixels.astype(numpy.float16) if args.dtype == "f16" else pixels, numpy.ones(shape, numpy.int64)]
    # What a model does not look at has no input.
    feed = {one.name: value for one, value in zip(session.get_inputs(), given)}
    times = []
    for run in range(args.warmup + args.runs):
        start = time.perf_counter()
        session.run(None, feed)
        if run >= args.warmup:
            times.append((time.perf_counter() - start) * 1000)
    return onnxruntime.__version__, times


def main():
    args = parse_args()
    if args.export:
        return export(args)
    version, times = measure(args)
    result = {
        "model": args.model,
        "backend": f"onnxruntime-{args.device}",
        "dtype": args.dtype,
        "height": args.height,
        "width": args.width,
        "batch_size": args.batch_size,
        "runs": args.runs,
        "stages_ms": {"model": summary(times)},
        "peak_memory_mb": peak_memory_mb(),
        "cpu": cpu_name(),
        "threads": args.threads,
        "python": platform.python_version(),
        "onnxruntime": version,
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
