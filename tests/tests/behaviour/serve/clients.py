"""Asks a server through the clients that other people wrote, and compares with what the command line printed.

Arguments: the address, a file with the command line's JSON, and the pictures. Needs mlflow-skinny, pandas and
tritonclient[http].
"""

import base64
import json
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pandas as pd
import tritonclient.http as triton
from mlflow.pyfunc.scoring_server.client import ScoringServerClient

address, printed, *pictures = sys.argv[1:]
host, port = address.rsplit(":", 1)
expected = json.loads(Path(printed).read_text())
files = [Path(picture).read_bytes() for picture in pictures]


def row(found):
    """Returns what both have of a picture."""
    return [(d["label"], d["name"], d["score"], list(d["box"].values())) for d in found["detections"]]


def check(what, found):
    assert [row(one) for one in found] == [row(one) for one in expected], what


def mlflow():
    client = ScoringServerClient(host, int(port))
    client.ping()
    frame = pd.DataFrame({"image": [base64.encodebytes(file).decode() for file in files]})
    check("mlflow", client.invoke(frame).get_predictions().to_dict("records"))
    inputs = {"image": [base64.b64encode(file).decode() for file in files]}
    check("mlflow inputs", client.invoke(inputs).get_predictions().to_dict("records"))


def of_tensors(found):
    counts, boxes, scores = (found.as_numpy(name) for name in ("num_detections", "boxes", "scores"))
    labels, names = found.as_numpy("labels"), found.as_numpy("names")
    text = lambda value: value.decode() if isinstance(value, bytes) else value
    return [
        {
            "detections": [
                {
                    "label": int(labels[i, k]),
                    "name": text(names[i, k]),
                    "score": float(scores[i, k]),
                    "box": dict(zip(("x1", "y1", "x2", "y2"), map(float, boxes[i, k]))),
                }
                for k in range(count)
            ]
        }
        for i, count in enumerate(counts)
    ]


def triton_http(client, files, **options):
    binary = options.pop("binary", True)
    values = files if binary else [base64.b64encode(file).decode() for file in files]
    image = triton.InferInput("image", [len(files)], "BYTES")
    image.set_data_from_numpy(np.array(values, dtype=object), binary_data=binary)
    wanted = None
    if not binary:
        names = ("num_detections", "boxes", "scores", "labels", "names")
        wanted = [triton.InferRequestedOutput(name, binary_data=False) for name in names]
    return of_tensors(client.infer("shapes", [image], outputs=wanted, **options))


def tritons():
    client = triton.InferenceServerClient(address)
    assert client.is_server_live() and client.is_server_ready() and client.is_model_ready("shapes")
    assert client.get_model_metadata("shapes")["inputs"][0]["name"] == "image"
    assert client.get_server_metadata()["name"] == "detr"
    assert client.get_model_repository_index()[0]["state"] == "READY"
    client.get_model_config("shapes")
    check("triton binary", triton_http(client, files))
    check("triton JSON", triton_http(client, files, binary=False))
    for coding in ("gzip", "deflate"):
        options = {"request_compression_algorithm": coding, "response_compression_algorithm": coding}
        check("triton " + coding, triton_http(client, files, request_id="7", **options))
    try:
        client.infer("other", [triton.InferInput("image", [0], "BYTES")])
        raise SystemExit("a model that is not there answered")
    except triton.InferenceServerException:
        pass


def one(index):
    client = triton.InferenceServerClient(address)
    found = triton_http(client, [files[index % len(files)]])
    assert row(found[0]) == row(expected[index % len(files)]), f"together: {index}"


mlflow()
tritons()
with ThreadPoolExecutor(64) as pool:
    list(pool.map(one, range(64)))
print("all equal")
