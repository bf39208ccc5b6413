#!/usr/bin/env python3
"""Times ONNX files in ONNX Runtime beside each other, the files in turn, and counts their nodes.

    detr export recipe:detr-r50 --output ours.onnx --height 480 --width 640 --batch-size 1
    python benches/peers/detr_onnx.py --model detr-r50 --height 480 --width 640 --cache target/bench/onnx --export theirs.onnx
    python benches/peers/onnx_speed.py ours.onnx theirs.onnx

Every round runs each file once, with one image of noise; a padding mask, which files of transformers take, has no padding.
Prints the median and the least of all rounds, the median of the processor's time, which other programs disturb less,
ratios to the last file, and the number of nodes before and after onnxslim. `--slim` is the folder for the slim files. Needs numpy, onnx and onnxruntime; onnxslim for `--slim`.
"""

import argparse
import pathlib
import statistics
import time

import numpy as np
import onnx
import onnxruntime


def parse_args():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("files", nargs="+", type=pathlib.Path)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--slim", type=pathlib.Path)
    return parser.parse_args()


def session_of(file, threads):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    # Threads that wait are not to count as work.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])


def feed_of(session):
    random = np.random.default_rng(0)
    feed = {}
    for port in session.get_inputs():
        shape = [1 if isinstance(length, str) else length for length in port.shape]
        if port.type == "tensor(float)" and len(shape) == 4:
            feed[port.name] = random.standard_normal(shape, np.float32)
        else:
            kind = {"tensor(int64)": np.int64, "tensor(bool)": bool}.get(port.type, np.float32)
            feed[port.name] = np.ones(shape, kind)
    return feed


def nodes(file):
    return len(onnx.load(file, load_external_data=False).graph.node)


def slim_nodes(file, folder):
    import onnxslim

    folder.mkdir(parents=True, exist_ok=True)
    slim = folder / file.name
    onnxslim.slim(str(file), str(slim))
    return nodes(slim)


def main():
    args = parse_args()
    sessions = [session_of(file, args.threads) for file in args.files]
    feeds = [feed_of(session) for session in sessions]
    for session, feed in zip(sessions, feeds):
        session.run(None, feed)
    rounds = []
    for _ in range(args.rounds):
        times = []
        for session, feed in zip(sessions, feeds):
            start, work = time.perf_counter(), time.process_time()
            session.run(None, feed)
            times.append((time.perf_counter() - start, time.process_time() - work))
        rounds.append(times)
    print(f"onnxruntime {onnxruntime.__version__}, {args.threads} threads, {args.rounds} rounds")
    print("| file | nodes | after onnxslim | median ms | ratio | least ms | ratio | processor ms | ratio |")
    print("|---|---|---|---|---|---|---|---|---|")

    def numbers(index):
        walls, works = zip(*(times[index] for times in rounds))
        return [1000 * value for value in (statistics.median(walls), min(walls), statistics.median(works))]

    last = numbers(len(args.files) - 1)
    for index, file in enumerate(args.files):
        slim = slim_nodes(file, args.slim) if args.slim else "-"
        columns = [f"{own:.0f} | {own / other:.2f}" for own, other in zip(numbers(index), last)]
        print(f"| {file.name} | {nodes(file)} | {slim} | {' | '.join(columns)} |")


main()
