"""How many add-checkpoint requests a second a witness answers, each durable, over many watched logs.

    python -m benchmarks.node.witness                          # 40,000 logs, 4,000 requests
    python -m benchmarks.node.witness --logs 1000 --requests 2000 --clients 1 8 32 --json witness.json

The service is a process of its own (`pd node witness`), the clients are threads of this one; with two cores they share
the machine with it. Requests are signed before the clock starts and go to logs in random order, so nearly every one
moves another log. The control, in the same run: rows committed one at a time to SQLite (WAL, synchronous FULL).
"""

from __future__ import annotations

import argparse
import contextlib
import json
import platform
import random
import signal
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import httpx
from plausible.ledger.merkle.tree import MemoryTree, hash_leaf
from plausible.ledger.notes.checkpoint import Checkpoint
from plausible.ledger.notes.note import ED25519, SignerKey
from plausible.ledger.witness import AddCheckpointRequest
from plausible.node.witness.directory import make, open_witness

TREE = MemoryTree(hash_leaf(b"%d" % i) for i in range(64))


def control(folder: Path, rows: int) -> float:
    """Rows a second, each in a commit of its own, flushed."""
    with contextlib.closing(sqlite3.connect(folder / "control.db", isolation_level=None)) as db:
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = FULL")
        db.execute("CREATE TABLE t (a INTEGER PRIMARY KEY, b BLOB)")
        began = time.perf_counter()
        for _ in range(rows):
            db.execute("INSERT INTO t (b) VALUES (?)", (bytes(700),))
        return rows / (time.perf_counter() - began)


def requests_for(logs: Sequence[SignerKey], count: int, sizes: dict[str, int], rng: random.Random) -> list[bytes]:
    """Bodies that each move a log forward by one; `sizes` remembers how far each is."""
    made: list[bytes] = []
    for log in rng.choices(logs, k=count) if count > len(logs) else rng.sample(logs, count):
        old = sizes.get(log.name, 0)
        new = sizes[log.name] = old + 1
        proof = TREE.consistency(old, new) if old else []
        note = Checkpoint(log.name, new, TREE.root(new)).sign(log).encode()
        made.append(AddCheckpointRequest(old, tuple(proof), note).encode())
    return made


def load(address: str, bodies: Sequence[bytes], clients: int) -> tuple[float, list[float]]:
    """(seconds in all, seconds of each request), all answered with 200."""
    parts = [bodies[n::clients] for n in range(clients)]
    waits: list[list[float]] = [[] for _ in parts]
    wrong: list[str] = []

    def ask(part: Sequence[bytes], out: list[float]) -> None:
        with httpx.Client(base_url=address, timeout=60) as client:
            for body in part:
                began = time.perf_counter()
                answer = client.post("/add-checkpoint", content=body)
                out.append(time.perf_counter() - began)
                if answer.status_code != 200:
                    wrong.append(f"{answer.status_code} {answer.text}")

    threads = [threading.Thread(target=ask, args=pair) for pair in zip(parts, waits, strict=True)]
    began = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    took = time.perf_counter() - began
    if wrong:
        raise SystemExit(f"{len(wrong)} requests were not cosigned, the first: {wrong[0]}")
    return took, [wait for part in waits for wait in part]


def main(arguments: argparse.Namespace) -> dict[str, Any]:
    """Run and return the figures."""
    rng = random.Random(arguments.seed)
    logs = [SignerKey(f"log.example/{n}", ED25519, rng.randbytes(32)) for n in range(arguments.logs)]
    rows: list[dict[str, float]] = []
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        make(folder / "w", "witness.example/bench", guard=folder / "w.count")
        with open_witness(folder / "w") as witness:
            witness.add_logs([(log.name, [log.verifier]) for log in logs])
        command = [sys.executable, "-m", "plausible.cli", "node", "witness", str(folder / "w"), "--port", "0"]
        with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
            try:
                assert process.stderr is not None
                address = process.stderr.readline().split(" at ")[1].split(";")[0]
                sizes: dict[str, int] = {}
                for clients in arguments.clients:
                    # a client answers one request after the other: two for one log are never on their way at once
                    bodies = requests_for(logs, min(arguments.requests, len(logs)), sizes, rng)
                    commits = control(Path(tempfile.mkdtemp(dir=folder)), 500)
                    took, waits = load(address, bodies, clients)
                    waits.sort()
                    row = {
                        "clients": clients,
                        "requests": len(bodies),
                        "requests_per_second": len(bodies) / took,
                        "median_ms": statistics.median(waits) * 1e3,
                        "p95_ms": waits[-(-95 * len(waits) // 100) - 1] * 1e3,
                        "sqlite_commits_per_second": commits,
                    }
                    rows.append(row)
                    print(
                        f"{clients:3d} clients: {row['requests_per_second']:7.0f} add-checkpoint/s"
                        f" over {len(logs)} logs, {len(bodies)} requests;"
                        f" median {row['median_ms']:.1f} ms, p95 {row['p95_ms']:.1f} ms;"
                        f" control {commits:.0f} commits/s",
                        flush=True,
                    )
            finally:
                process.send_signal(signal.SIGTERM)
    return {"format": "plausible.bench-witness/1", "machine": platform.machine(), "logs": len(logs), "rows": rows}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--logs", type=int, default=40_000)
    parser.add_argument("--requests", type=int, default=4_000, help="for each number of clients")
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 8, 32])
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    figures = main(options)
    if options.json:
        options.json.write_text(json.dumps(figures, indent=1), encoding="utf-8")
