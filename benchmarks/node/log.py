"""What a log service takes in: single entries against an empty handler, batches against appending here, and a flood.

    python -m benchmarks.node.log                                   # 32 clients, 3,000 entries each way, batches of 100
    python -m benchmarks.node.log --clients 1 8 32 --entries 2000 --rounds 3 --json log.json

The service is a process of its own (`pd node log`), every answer durable; the clients are threads of this one that
write prepared bytes to kept connections, each with a chain of its own. Entries are signed before the clock starts.
Controls, in the same run and taken in turns with what they stand beside:

    single      an empty FastAPI handler under the same server, sent the same bodies by the same clients
    flood       allowed clients by themselves, then beside strangers that knock without a pause
    batch       the same entries parsed, their signatures verified, appended to `ledger.log.Log` in one commit a batch
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Generator, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from plausible.ledger.entries.authors import Authors
from plausible.ledger.entries.entry import parse_entry, verify_entry
from plausible.ledger.log import Log
from plausible.ledger.merkle.tiles import encode_bundle
from plausible.ledger.notes.note import ED25519, SignerKey
from plausible.node.conformance.chain import MadeChain
from plausible.node.log.directory import make

AUTHOR = SignerKey("bench.example/author", ED25519, bytes(range(32)))
KNOWN = 8
"""Allowed clients beside the flood."""
STRANGER = SignerKey("stranger.example", ED25519, bytes(range(1, 33)))
EMPTY, FLOOD = "--serve-empty", "--flood"


def serve_empty() -> None:
    """An application that does nothing with what it is sent, on the same server."""
    from fastapi import FastAPI, Response
    from plausible.node.serving import run

    app = FastAPI(openapi_url=None)

    @app.post("/entry")
    async def entry() -> Response:  # pyright: ignore[reportUnusedFunction]
        return Response()

    run(app, host="127.0.0.1", port=0, ready=lambda address: print(f"empty at {address};", file=sys.stderr, flush=True))


@contextlib.contextmanager
def process(command: Sequence[str]) -> Generator[tuple[str, int]]:
    """(host, port) of a service that says where it is on stderr."""
    with subprocess.Popen([sys.executable, "-m", *command], stderr=subprocess.PIPE, text=True) as started:
        try:
            assert started.stderr is not None
            while " at http://" not in (line := started.stderr.readline()):
                assert line, "the service did not start"
            address = urlsplit(line.split(" at ")[1].split(";")[0])
            assert address.hostname is not None
            assert address.port is not None
            yield address.hostname, address.port
        finally:
            started.send_signal(signal.SIGTERM)
            started.wait(60)


def requests_of(path: str, bodies: Sequence[bytes]) -> list[bytes]:
    """Whole HTTP/1.1 requests."""
    head = f"POST {path} HTTP/1.1\r\nHost: bench\r\nContent-Type: application/octet-stream\r\nContent-Length: "
    return [head.encode() + b"%d\r\n\r\n" % len(body) + body for body in bodies]


def answer_of(connection: socket.socket) -> bytes:
    """The status line of one answer, its body read."""
    data = b""
    while b"\r\n\r\n" not in data:
        part = connection.recv(65536)
        assert part, "the service closed the connection"
        data += part
    head, _, body = data.partition(b"\r\n\r\n")
    fields = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:])
    missing = int(fields[b"content-length"]) - len(body)
    while missing > 0:
        missing -= len(connection.recv(min(missing, 65536)))
    return head.split(b"\r\n")[0]


def load(address: tuple[str, int], parts: Sequence[Sequence[bytes]]) -> tuple[float, list[float]]:
    """(seconds in all, seconds of each request) of clients that each send their part, one after the other."""
    waits: list[list[float]] = [[] for _ in parts]
    wrong: list[bytes] = []
    ready = threading.Barrier(len(parts) + 1)

    def client(part: Sequence[bytes], out: list[float]) -> None:
        with socket.create_connection(address) as connection:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            ready.wait()
            for request in part:
                began = time.perf_counter()
                connection.sendall(request)
                status = answer_of(connection)
                out.append(time.perf_counter() - began)
                if b" 200 " not in status + b" ":
                    wrong.append(status)

    threads = [threading.Thread(target=client, args=pair) for pair in zip(parts, waits, strict=True)]
    for thread in threads:
        thread.start()
    ready.wait()
    began = time.perf_counter()
    for thread in threads:
        thread.join()
    took = time.perf_counter() - began
    if wrong:
        raise SystemExit(f"{len(wrong)} requests were not taken, the first: {wrong[0].decode()}")
    return took, [wait for part in waits for wait in part]


def knock(host: str, port: int, clients: int) -> None:
    """A stranger's clients that ask without a pause, and again when they are shut out, until SIGTERM."""
    [request] = requests_of("/entry", [MadeChain(STRANGER).next()])
    count = [0] * clients

    def client(place: int) -> None:
        while True:
            with contextlib.suppress(OSError, AssertionError), socket.create_connection((host, port), 10) as connection:
                while True:
                    connection.sendall(request)
                    answer_of(connection)
                    count[place] += 1

    for place in range(clients):
        threading.Thread(target=client, args=(place,), daemon=True).start()
    signal.sigwait({signal.SIGTERM})
    print(sum(count), flush=True)
    os._exit(0)


@contextlib.contextmanager
def flood(address: tuple[str, int], clients: int) -> Generator[list[float]]:
    """The same in a process of its own; the list gets how many were refused each second."""
    command = [sys.executable, "-m", "benchmarks.node.log", FLOOD, address[0], str(address[1]), str(clients)]
    told: list[float] = []
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as started:
        time.sleep(3)
        began = time.perf_counter()
        try:
            yield told
        finally:
            started.send_signal(signal.SIGTERM)
            out, _ = started.communicate(timeout=30)
            told.append(int(out or 0) / (time.perf_counter() - began + 2))


def in_process(folder: Path, batches: Sequence[Sequence[bytes]]) -> float:
    """Seconds to check and append the batches here, one durable commit each, files written and flushed at the end."""
    authors = Authors.of([AUTHOR.verifier])
    with Log.create(folder, SignerKey.generate("bench.example/log")) as log:
        began = time.perf_counter()
        for batch in batches:
            for leaf in batch:
                verify_entry(parse_entry(leaf), authors)
            log.append(batch)
        log.publish()
        log.sync()
        return time.perf_counter() - began


def main(arguments: argparse.Namespace) -> dict[str, Any]:
    """Run and return the figures."""
    singles: list[dict[str, float]] = []
    batches: list[dict[str, float]] = []
    floods: list[dict[str, float]] = []
    with tempfile.TemporaryDirectory(dir=arguments.folder) as temporary:
        folder = Path(temporary)
        make(folder / "log", "bench.example/log", authors=[AUTHOR.verifier])
        service = ["plausible.cli", "node", "log", str(folder / "log"), "--port", "0"]
        with process(["benchmarks.node.log", EMPTY]) as empty, process(service) as log:
            for clients in arguments.clients:
                for _ in range(arguments.rounds):
                    share = -(-arguments.entries // clients)
                    parts = [requests_of("/entry", MadeChain(AUTHOR).several(share)) for _ in range(clients)]
                    nothing, _ = load(empty, parts)
                    took, waits = load(log, parts)
                    waits.sort()
                    count = share * clients
                    singles.append(
                        {
                            "clients": clients,
                            "entries": count,
                            "entries_per_second": count / took,
                            "empty_per_second": count / nothing,
                            "ratio": nothing / took,
                            "median_ms": statistics.median(waits) * 1e3,
                            "p95_ms": waits[-(-95 * len(waits) // 100) - 1] * 1e3,
                        }
                    )
            for _ in range(arguments.rounds):
                count = -(-arguments.entries // 4 // KNOWN)
                parts = [requests_of("/entry", MadeChain(AUTHOR).several(count)) for _ in range(2 * KNOWN)]
                alone, quiet = load(log, parts[:KNOWN])
                with flood(log, arguments.strangers) as refused:
                    beside, loud = load(log, parts[KNOWN:])
                floods.append(
                    {
                        "strangers": arguments.strangers,
                        "refused_per_second": refused[0],
                        "alone_median_ms": statistics.median(quiet) * 1e3,
                        "flooded_median_ms": statistics.median(loud) * 1e3,
                        "delay": statistics.median(loud) / statistics.median(quiet),
                        "slowdown": beside / alone,
                    }
                )
            for number in range(arguments.rounds):
                chains = [MadeChain(AUTHOR) for _ in range(arguments.batch_clients)]
                share = -(-arguments.entries // (arguments.batch * len(chains)))
                leaves = [[chain.several(arguments.batch) for _ in range(share)] for chain in chains]
                parts = [requests_of("/entries", [encode_bundle(batch) for batch in part]) for part in leaves]
                here = in_process(folder / f"control-{number}", [batch for part in leaves for batch in part])
                took, _ = load(log, parts)
                count = sum(len(batch) for part in leaves for batch in part)
                batches.append(
                    {
                        "batch": arguments.batch,
                        "clients": arguments.batch_clients,
                        "entries": count,
                        "entries_per_second": count / took,
                        "in_process_per_second": count / here,
                        "ratio": here / took,
                    }
                )
    for clients in arguments.clients:
        rows = [row for row in singles if row["clients"] == clients]
        print(
            f"single, {clients:3d} clients: {_median(rows, 'entries_per_second'):6.0f} entries/s, every answer durable;"
            f" empty handler {_median(rows, 'empty_per_second'):6.0f}/s; ratio {_median(rows, 'ratio'):.0%}"
            f" (n = {len(rows)} rounds of {rows[0]['entries']:.0f}); median {_median(rows, 'median_ms'):.1f} ms,"
            f" p95 {_median(rows, 'p95_ms'):.1f} ms"
        )
    print(
        f"flood by {arguments.strangers} strangers ({_median(floods, 'refused_per_second'):.0f} refused/s):"
        f" {KNOWN} known clients wait {_median(floods, 'alone_median_ms'):.1f} ms alone,"
        f" {_median(floods, 'flooded_median_ms'):.1f} ms beside it (median);"
        f" {_median(floods, 'slowdown'):.2f} times as long in all (n = {len(floods)} rounds)"
    )
    print(
        f"batch of {arguments.batch}, {arguments.batch_clients} clients: {_median(batches, 'entries_per_second'):6.0f}"
        f" entries/s; in process with the same checks {_median(batches, 'in_process_per_second'):6.0f}/s;"
        f" ratio {_median(batches, 'ratio'):.0%} (n = {len(batches)} rounds of {batches[0]['entries']:.0f})"
    )
    return {
        "format": "plausible.bench-log/1",
        "machine": platform.machine(),
        "cpus": os.cpu_count(),
        "single": singles,
        "batch": batches,
        "flood": floods,
    }


def _median(rows: Sequence[dict[str, float]], name: str) -> float:
    return statistics.median(row[name] for row in rows)


if __name__ == "__main__":
    if EMPTY in sys.argv:
        serve_empty()
        raise SystemExit
    if FLOOD in sys.argv:
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        knock(sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--entries", type=int, default=3_000, help="in each round")
    parser.add_argument("--clients", type=int, nargs="+", default=[32])
    parser.add_argument("--batch", type=int, default=100)
    parser.add_argument("--batch-clients", type=int, default=2)
    parser.add_argument("--strangers", type=int, default=64, help="clients of a key that is not allowed")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--folder", type=Path, help="where the logs are made (default: the temporary folder)")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    figures = main(options)
    if options.json:
        options.json.write_text(json.dumps(figures, indent=1), encoding="utf-8")
