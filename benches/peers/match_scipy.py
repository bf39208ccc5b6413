"""Times scipy's assignment on the costs that `cargo xtask bench match` wrote.

    python benches/peers/match_scipy.py FILE [RUNS]

FILE is what `cargo xtask bench match` wrote: safetensors `[layers, B, Q, n]` in f32. As
in the reference, the problems of a batch are solved one after the other on one thread. Prints
milliseconds of every run and the least sums as JSON. Needs numpy and scipy.
"""

import json
import sys
import time

import numpy as np
import scipy
from scipy.optimize import linear_sum_assignment


def tensors(path):
    with open(path, "rb") as file:
        header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
        data = file.read()
    for name, entry in header.items():
        begin, end = entry["data_offsets"]
        yield name, np.frombuffer(data[begin:end], np.float32).reshape(entry["shape"])


def measure(costs, runs):
    problems = costs.reshape(-1, *costs.shape[2:])
    times = []
    for _ in range(1 + runs):
        start = time.perf_counter()
        solved = [linear_sum_assignment(problem) for problem in problems]
        times.append(1e3 * (time.perf_counter() - start))
    pairs = zip(problems, solved)
    totals = [float(problem[found].sum(dtype=np.float64)) for problem, found in pairs]
    return {"assign_ms": times[1:], "totals": totals}


runs = int(sys.argv[2]) if len(sys.argv) > 2 else 9
cases = [{"name": name} | measure(costs, runs) for name, costs in tensors(sys.argv[1])]
print(json.dumps({"scipy": scipy.__version__, "cases": cases}))
