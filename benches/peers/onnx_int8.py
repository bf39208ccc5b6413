#!/usr/bin/env python3
"""Quantises a file of `detr export` to INT8 with ONNX Runtime's own tools: QuantizeLinear and DequantizeLinear pairs.

    python benches/peers/onnx_int8.py shapes.onnx shapes-int8.onnx pictures/ [--method minmax|percentile|entropy]

Weights of convolutions and linear layers are symmetric and per channel, activations symmetric and per tensor, calibrated
on the pictures of the folder, which are resized to the size of the file. Products of activations, places to read at and
the last heads stay in f32. Needs numpy, onnx, onnxruntime and Pillow.
"""

import argparse
import pathlib

import numpy as np
import onnx
from onnxruntime.quantization import (
    CalibrationDataReader,
    CalibrationMethod,
    QuantFormat,
    QuantType,
    quantize_static,
)
from PIL import Image

MEAN = np.array([0.485, 0.456, 0.406], np.float32)
STD = np.array([0.229, 0.224, 0.225], np.float32)
METHODS = {
    "minmax": CalibrationMethod.MinMax,
    "percentile": CalibrationMethod.Percentile,
    "entropy": CalibrationMethod.Entropy,
}
# Layers of which rounding would move places and coordinates.
EXACT = ("sampling_offsets", "attention_weights", "reference_points", "class_embed", "bbox_embed", "linear_")
ENDINGS = (".jpg", ".jpeg", ".png", ".bmp", ".webp")


class Pictures(CalibrationDataReader):
    """Normalised pictures, one by one."""

    def __init__(self, files, size):
        self.files, self.size = iter(files), size

    def get_next(self):
        file = next(self.files, None)
        if file is None:
            return None
        image = Image.open(file).convert("RGB").resize(self.size, Image.BILINEAR)
        pixels = (np.asarray(image, np.float32) / 255 - MEAN) / STD
        return {"inputs": pixels.transpose(2, 0, 1)[None]}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model")
    parser.add_argument("output")
    parser.add_argument("pictures", type=pathlib.Path)
    parser.add_argument("--count", type=int, default=40, help="pictures that are used")
    parser.add_argument("--method", choices=METHODS, default="minmax")
    args = parser.parse_args()

    graph = onnx.load(args.model).graph
    weights = {tensor.name for tensor in graph.initializer}
    _, _, height, width = (dim.dim_value for dim in graph.input[0].type.tensor_type.shape.dim)

    def stays(node):
        is_product = node.op_type == "MatMul" and not weights.intersection(node.input)
        return is_product or any(part in name for name in node.input for part in EXACT)

    files = sorted(path for path in args.pictures.iterdir() if path.suffix.lower() in ENDINGS)
    quantize_static(
        args.model,
        args.output,
        Pictures(files[: args.count], (width, height)),
        quant_format=QuantFormat.QDQ,
        op_types_to_quantize=["Conv", "MatMul"],
        nodes_to_exclude=[node.name for node in graph.node if stays(node)],
        per_channel=True,
        activation_type=QuantType.QInt8,
        weight_type=QuantType.QInt8,
        calibrate_method=METHODS[args.method],
        extra_options={"ActivationSymmetric": True},
    )


main()
