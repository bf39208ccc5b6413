"""Checks an ONNX file and compares ONNX Runtime's outputs with numbers in files.

Arguments are the file and a folder, in which `inputs.N.bin` is an input of N images and `NAME.N.bin` the expected
output NAME. Prints the largest difference of every output as JSON.
"""

import json
import pathlib
import sys

import numpy as np
import onnx
import onnxruntime

TYPES = {"tensor(float)": np.float32, "tensor(int64)": np.int64}


def main():
    file, folder = sys.argv[1], pathlib.Path(sys.argv[2])
    onnx.checker.check_model(onnx.load(file), full_check=True)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
    [source] = session.get_inputs()
    largest = {}
    for path in sorted(folder.glob("inputs.*.bin")):
        images = int(path.name.split(".")[1])
        pixels = np.fromfile(path, np.float32).reshape(images, *source.shape[1:])
        outputs = session.run(None, {source.name: pixels})
        for port, found in zip(session.get_outputs(), outputs):
            expected = folder / f"{port.name}.{images}.bin"
            if not expected.exists():
                continue
            expected = np.fromfile(expected, TYPES[port.type]).reshape(found.shape)
            difference = float(np.abs(found.astype(np.float64) - expected).max())
            largest[port.name] = max(largest.get(port.name, 0.0), difference)
    print(json.dumps(largest))


main()
