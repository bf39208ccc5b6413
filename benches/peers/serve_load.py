#!/usr/bin/env python3
"""Loads servers with clients that ask again as soon as they are answered, and counts what comes back.

    detr serve --model assets/shapes --backend flex &
    python benches/peers/serve_fastapi.py &
    python benches/peers/serve_load.py --clients 256 --seconds 300 http://127.0.0.1:8080 --pid $(pgrep -x detr)
    python benches/peers/serve_load.py --clients 8 --seconds 10 --rounds 3 http://127.0.0.1:8080 http://127.0.0.1:8090

With several servers, every round loads one after the other. A request that is refused with 503 waits for the time of
Retry-After and is not counted as accepted. Prints requests per second, the times of accepted ones, statuses, connections
that broke, and the memory of the process `--pid` over time. Python alone.
"""

import argparse
import asyncio
import collections
import json
import pathlib
import statistics
import time
import urllib.parse


async def answer_of(reader):
    head = await reader.readuntil(b"\r\n\r\n")
    lines = head.decode("latin-1").split("\r\n")
    headers = dict(line.lower().split(": ", 1) for line in lines[1:] if ": " in line)
    body = await reader.readexactly(int(headers.get("content-length", 0)))
    return int(lines[0].split(" ")[1]), headers, body


async def client(address, request, end, found):
    reader = writer = None
    while time.monotonic() < end:
        try:
            if writer is None:
                reader, writer = await asyncio.open_connection(*address)
            start = time.monotonic()
            writer.write(request)
            status, headers, body = await answer_of(reader)
            json.loads(body)
        except (OSError, asyncio.IncompleteReadError) as error:
            found["broken"][type(error).__name__] += 1
            reader = writer = None
            continue
        found["status"][status] += 1
        if status == 200:
            found["times"].append(time.monotonic() - start)
        elif status == 503:
            await asyncio.sleep(float(headers.get("retry-after", 1)))
        if headers.get("connection") == "close":
            writer.close()
            reader = writer = None
    if writer is not None:
        writer.close()


def resident(pid):
    for line in pathlib.Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) // 1024


async def watch(pid, end, samples):
    while pid and time.monotonic() < end:
        samples.append(resident(pid))
        await asyncio.sleep(max(1, (end - time.monotonic()) / 20))


async def load(url, args, picture):
    parts = urllib.parse.urlsplit(url)
    address = (parts.hostname, parts.port)
    head = f"POST /detect HTTP/1.1\r\nHost: a\r\nContent-Type: image/png\r\nContent-Length: {len(picture)}\r\n\r\n"
    found = {"times": [], "status": collections.Counter(), "broken": collections.Counter()}
    end, samples = time.monotonic() + args.seconds, []
    clients = [client(address, head.encode() + picture, end, found) for _ in range(args.clients)]
    start = time.monotonic()
    await asyncio.gather(watch(args.pid, end, samples), *clients)
    times = sorted(found["times"])
    at = lambda share: round(times[min(len(times) - 1, int(share * len(times)))] * 1e3, 1) if times else None
    return {
        "server": url,
        "per_second": round(len(times) / (time.monotonic() - start), 2),
        "median_ms": at(0.5),
        "p99_ms": at(0.99),
        "most_ms": at(1),
        "status": dict(found["status"]),
        "broken": dict(found["broken"]),
        "memory_mib": samples,
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("servers", nargs="+")
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--picture", type=pathlib.Path, default=pathlib.Path("assets/shapes.png"))
    parser.add_argument("--pid", type=int)
    args = parser.parse_args()
    picture = args.picture.read_bytes()
    rates = collections.defaultdict(list)
    for _ in range(args.rounds):
        for server in args.servers:
            row = asyncio.run(load(server, args, picture))
            rates[server].append(row["per_second"])
            print(json.dumps(row), flush=True)
    if len(args.servers) > 1:
        medians = [statistics.median(rates[server]) for server in args.servers]
        print(json.dumps({"per_second": medians, "ratio": round(medians[0] / medians[-1], 2)}))


if __name__ == "__main__":
    main()
