"""Asks a server through the clients that other people wrote, and compares with what the command line printed.

Usage: clients.py MAKER HTTP GRPC PRINTED PICTURE...
       clients.py MAKER HTTP GRPC --record FOLDER PICTURE

MAKER is kserve or others: the packages of KServe and Triton cannot be in one process, since they bring the same messages.
HTTP and GRPC are addresses, PRINTED is a file with the command line's JSON. With --record, every client's request for
one picture is written to FOLDER as it was sent: NAME.http is the whole request, NAME.grpc is the message of ModelInfer.
Needs what requirements.txt lists.
"""

import asyncio
import base64
import json
import socket
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import numpy as np

IS_KSERVE = sys.argv[1] == "kserve"
if IS_KSERVE:
    import kserve
else:
    import pandas as pd
    import tritonclient.grpc as triton_grpc
    import tritonclient.http as triton
    from mlflow.pyfunc.scoring_server.client import ScoringServerClient

NAMES = ("num_detections", "boxes", "scores", "labels", "names")


def plain(text):
    return text.decode() if isinstance(text, bytes) else text


def of_arrays(array):
    """Returns the rows of the output tensors, which `array` gives by name."""
    counts, boxes, scores, labels, names = map(array, NAMES)
    labels, names = labels.reshape(scores.shape), names.reshape(scores.shape)
    return [
        [
            (int(labels[i, k]), plain(names[i, k]), float(scores[i, k]), [float(x) for x in boxes[i, k]])
            for k in range(count)
        ]
        for i, count in enumerate(counts)
    ]


def of_json(rows):
    return [[(d["label"], d["name"], d["score"], list(d["box"].values())) for d in row["detections"]] for row in rows]


def text(file):
    return base64.b64encode(file).decode()


# Every client: a function of the two addresses and the files, which returns rows.


def mlflow(body):
    def ask(http, _, files):
        host, port = http.rsplit(":", 1)
        found = ScoringServerClient(host, int(port)).invoke(body(files)).get_predictions()
        return of_json(found.to_dict("records"))

    return ask


def triton_http(binary=True, coding=None):
    def ask(http, _, files):
        client = triton.InferenceServerClient(http)
        values = files if binary else [text(file) for file in files]
        image = triton.InferInput("image", [len(files)], "BYTES")
        image.set_data_from_numpy(np.array(values, dtype=object), binary_data=binary)
        wanted = None if binary else [triton.InferRequestedOutput(name, binary_data=False) for name in NAMES]
        found = client.infer(
            "shapes",
            [image],
            outputs=wanted,
            request_id="7",
            request_compression_algorithm=coding,
            response_compression_algorithm=coding,
        )
        return of_arrays(found.as_numpy)

    return ask


def triton_rpc(coding=None):
    def ask(_, rpc, files):
        client = triton_grpc.InferenceServerClient(rpc)
        image = triton_grpc.InferInput("image", [len(files)], "BYTES")
        image.set_data_from_numpy(np.array(files, dtype=object))
        found = client.infer("shapes", [image], request_id="7", compression_algorithm=coding)
        return of_arrays(found.as_numpy)

    return ask


def kserve_request(files, binary):
    values = files if binary else [text(file) for file in files]
    image = kserve.InferInput("image", [len(files)], "BYTES")
    image.set_data_from_numpy(np.array(values, dtype=object), binary_data=binary)
    return kserve.InferRequest("shapes", [image])


def of_kserve(response):
    outputs = {output.name: output.as_numpy() for output in response.outputs}
    return of_arrays(outputs.__getitem__)


def kserve_http(binary):
    def ask(http, _, files):
        async def work():
            client = kserve.InferenceRESTClient(kserve.RESTConfig(protocol="v2"))
            found = await client.infer(f"http://{http}", kserve_request(files, binary), model_name="shapes")
            await client.close()
            return of_kserve(found)

        return asyncio.run(work())

    return ask


def kserve_v1(http, _, files):
    async def work():
        client = kserve.InferenceRESTClient(kserve.RESTConfig(protocol="v1"))
        body = {"instances": [{"b64": text(file)} for file in files]}
        found = await client.infer(f"http://{http}", body, model_name="shapes")
        await client.close()
        return of_json(found["predictions"])

    return asyncio.run(work())


def kserve_rpc(_, rpc, files):
    async def work():
        client = kserve.InferenceGRPCClient(rpc)
        found = await client.infer(kserve_request(files, True))
        await client.close()
        return of_kserve(found)

    return asyncio.run(work())


OTHERS = {
    "mlflow-split": mlflow(lambda files: pd.DataFrame({"image": [base64.encodebytes(f).decode() for f in files]})),
    "mlflow-inputs": mlflow(lambda files: [text(f) for f in files]),
    "triton-binary": triton_http(),
    "triton-json": triton_http(binary=False),
    "triton-gzip": triton_http(coding="gzip"),
    "triton-deflate": triton_http(coding="deflate"),
    "triton-grpc": triton_rpc(),
    "triton-grpc-gzip": triton_rpc("gzip"),
}
KSERVE = {
    "kserve-binary": kserve_http(True),
    "kserve-json": kserve_http(False),
    "kserve-v1": kserve_v1,
    "kserve-grpc": kserve_rpc,
}
CLIENTS = KSERVE if IS_KSERVE else OTHERS


def states_of_others(http, rpc):
    """Asks for everything but detections."""
    for client in (triton.InferenceServerClient(http), triton_grpc.InferenceServerClient(rpc)):
        assert client.is_server_live() and client.is_server_ready() and client.is_model_ready("shapes")
        assert not client.is_model_ready("other")
    rest = triton.InferenceServerClient(http)
    assert rest.get_model_metadata("shapes")["inputs"][0]["name"] == "image"
    assert rest.get_server_metadata()["name"] == "detr"
    assert rest.get_model_repository_index()[0]["state"] == "READY"
    rest.get_model_config("shapes")
    call = triton_grpc.InferenceServerClient(rpc)
    assert call.get_model_metadata("shapes").inputs[0].name == "image"
    assert call.get_server_metadata().name == "detr"
    assert call.get_model_repository_index().models[0].state == "READY"
    for client, module in ((rest, triton), (call, triton_grpc)):
        image = module.InferInput("image", [1], "BYTES")
        image.set_data_from_numpy(np.array([b"no picture"], dtype=object))
        for model in ("shapes", "other"):
            try:
                client.infer(model, [image])
                raise SystemExit("a bad request was answered")
            except triton.InferenceServerException:
                pass


def states_of_kserve(_, rpc):
    async def work():
        client = kserve.InferenceGRPCClient(rpc)
        assert await client.is_server_live() and await client.is_server_ready()
        assert await client.is_model_ready("shapes")
        await client.close()

    asyncio.run(work())


def compare(http, rpc, printed, pictures):
    expected = of_json(json.loads(Path(printed).read_text()))
    files = [Path(picture).read_bytes() for picture in pictures]
    (states_of_kserve if IS_KSERVE else states_of_others)(http, rpc)
    for name, ask in CLIENTS.items():
        assert ask(http, rpc, files) == expected, name
        print(name, "equal")

    def one(index):
        name, ask = list(CLIENTS.items())[index % len(CLIENTS)]
        at = index % len(files)
        assert ask(http, rpc, [files[at]]) == [expected[at]], f"together: {name} {at}"

    with ThreadPoolExecutor(64) as pool:
        list(pool.map(one, range(128)))
    print("all equal")


def record(http, rpc, folder, picture):
    """Writes what the clients send for one picture."""
    files = [Path(picture).read_bytes()]

    def forward(source, target, copy):
        while data := source.recv(1 << 16):
            copy.extend(data)
            target.sendall(data)

    for name, ask in CLIENTS.items():
        sent = bytearray()
        if name.endswith("grpc"):
            channels = {grpc: grpc.insecure_channel, grpc.aio: grpc.aio.insecure_channel}

            def recording(make):
                def channel(*args, **options):
                    made = make(*args, **options)
                    call = made.unary_unary

                    def unary_unary(method, request_serializer=None, **others):
                        def serialize(message):
                            sent[:] = request_serializer(message)
                            return bytes(sent)

                        return call(method, request_serializer=serialize, **others)

                    made.unary_unary = unary_unary
                    return made

                return channel

            for module, make in channels.items():
                module.insecure_channel = recording(make)
            ask(http, rpc, files)
            for module, make in channels.items():
                module.insecure_channel = make
            Path(folder, name + ".grpc").write_bytes(sent)
        elif "grpc" not in name:
            listener = socket.create_server(("127.0.0.1", 0))

            def serve():
                client, _ = listener.accept()
                server = socket.create_connection(http.rsplit(":", 1))
                back = threading.Thread(target=forward, args=(server, client, bytearray()), daemon=True)
                back.start()
                forward(client, server, sent)

            threading.Thread(target=serve, daemon=True).start()
            ask("127.0.0.1:%d" % listener.getsockname()[1], rpc, files)
            Path(folder, name + ".http").write_bytes(sent)
        print(name, len(sent))


if __name__ == "__main__":
    if sys.argv[4] == "--record":
        record(*sys.argv[2:4], *sys.argv[5:])
    else:
        compare(*sys.argv[2:5], sys.argv[5:])
