"""How many entries a second a mirror catches up with: tree and bundles verified, then every author's signature too.

    python -m benchmarks.node.mirror                                   # 131,072 entries, 32,768 with signatures
    python -m benchmarks.node.mirror --entries 65536 --signed 16384 --json mirror.json

A log of real entries (generations, signed, about 1.2 kB each) is served by `pd node serve`, a process of its own; the
mirror follows it in this one, so with two cores they share the machine. Each figure is one whole catch-up from nothing:
fetched, verified, written, flushed, cosigned. Controls in the same run: the same files fetched the same way and thrown
away, and the same catch-up from the log's folder instead of from the server.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import platform
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from plausible.ledger.entries.entry import sign_entry
from plausible.ledger.log import Log
from plausible.ledger.merkle.tiles import WIDTH, Tile
from plausible.ledger.notes.note import SignerKey
from plausible.node.client import HttpSource
from plausible.node.mirror.directory import LogSettings, make
from plausible.node.mirror.follow import FETCHES, follow_once
from plausible.node.mirror.index import sign_index
from plausible.node.mirror.mirror import Mirror
from plausible.node.mirror.signatures import SignatureCheck
from plausible.schemas.statement import NO_PREVIOUS, GenerationStatement, Header
from plausible.schemas.text import digest_text

BATCH = 16_384


def leaves(author: SignerKey, start: int, count: int) -> list[bytes]:
    """Signed generations of one chain whose `prev` is made up: a mirror checks signatures, not chains."""
    made: list[bytes] = []
    for seq in range(start, start + count):
        digest = hashlib.sha256(b"%d" % seq).digest()
        header = Header(
            author=author.verifier.encode(),
            chain="0123456789abcdef" * 2,
            prev=digest_text(digest) if seq else NO_PREVIOUS,
            seq=seq,
            time="2026-01-01T00:00:00.000000Z",
        )
        statement = GenerationStatement.make(
            header, commitment=digest, draw=seq, model=digest, pixels=digest, file=digest
        )
        made.append(sign_entry(statement, author))
    return made


def make_log(folder: Path, key: SignerKey, entries: int) -> int:
    """A log of signed entries with a checkpoint; the bytes of its entries."""
    author, total = SignerKey.generate("models.example/bench"), 0
    Log.create(folder, key).close()
    with Log.open(folder, key) as log:
        for start in range(0, entries, BATCH):
            part = leaves(author, start, min(BATCH, entries - start))
            total += sum(map(len, part))
            log.append(part)
            log.publish()
            log.sync()
        log.public.write_checkpoint(log.head.size, log.head.note)
    return total


def fetched(address: str, entries: int) -> float:
    """Entries a second if their bundles and tiles are only fetched."""
    tiles = [Tile(level, number) for number in range(entries // WIDTH) for level in (None, 0)]
    began = time.perf_counter()
    with HttpSource(address) as source, ThreadPoolExecutor(FETCHES) as pool:
        for data in pool.map(lambda tile: source.fetch(tile.path, tile.max_bytes), tiles):
            if data is None:
                raise SystemExit("the server does not serve the log")
    return entries / (time.perf_counter() - began)


def caught_up(folder: Path, key: SignerKey, place: str, check: SignatureCheck | None) -> float:
    """Seconds of one catch-up of a fresh mirror."""
    make(folder, "mirror.example/bench", guard=None, guarded=False)
    with Mirror(folder) as mirror:
        mirror.add_log(key.name, [key.verifier], LogSettings(key.name, place, signatures=check is not None))
        began = time.perf_counter()
        follow_once(mirror, key.name, signatures=check)
        return time.perf_counter() - began


def indexed(folder: Path, key: SignerKey) -> float:
    """Seconds that the absence index of a caught-up mirror takes."""
    with Mirror(folder) as mirror:
        began = time.perf_counter()
        sign_index(mirror, key.name)
        return time.perf_counter() - began


def served(folder: Path, work: Callable[[str], Sequence[dict[str, Any]]]) -> Sequence[dict[str, Any]]:
    """What `work` measures with a log's folder served at an address."""
    command = [sys.executable, "-m", "plausible.cli", "node", "serve", str(folder), "--port", "0"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stderr is not None
            return work(process.stderr.readline().split(" at ")[1].split(";")[0])
        finally:
            process.send_signal(signal.SIGTERM)


def main(arguments: argparse.Namespace) -> dict[str, Any]:
    """Run and return the figures."""
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as temporary:
        root = Path(temporary)
        plain, signed = SignerKey.generate("log.example/plain"), SignerKey.generate("log.example/signed")
        size = arguments.entries - arguments.entries % WIDTH
        total = make_log(root / "plain", plain, size)
        make_log(root / "signed", signed, arguments.signed)

        def row(name: str, entries: int, seconds: float) -> dict[str, Any]:
            print(f"{name:44} {entries / seconds:9,.0f} entries/s  (n = {entries:,}, {seconds:.2f} s)", flush=True)
            return {"name": name, "entries": entries, "seconds": seconds, "entries_per_second": entries / seconds}

        def over_http(address: str) -> Sequence[dict[str, Any]]:
            done = [row("control: the same files fetched", size, size / fetched(address, size))]
            for turn in range(arguments.repeat):
                seconds = caught_up(root / f"m{turn}", plain, address, None)
                done.append(row("tree and bundles, over HTTP", size, seconds))
            return done

        def with_signatures(address: str) -> Sequence[dict[str, Any]]:
            with SignatureCheck() as check:
                check.check(0, [b"warm"] * 1024)  # the processes are running before the clock is
                seconds = caught_up(root / "s", signed, address, check)
            return [row("and every author's signature, over HTTP", arguments.signed, seconds)]

        rows += served(root / "plain", over_http)
        rows.append(
            row("tree and bundles, from a folder", size, caught_up(root / "f", plain, str(root / "plain"), None))
        )
        rows += served(root / "signed", with_signatures)
        rows.append(row("the absence index recomputed and signed", arguments.signed, indexed(root / "s", signed)))
    return {
        "format": "plausible.bench-mirror/1",
        "machine": platform.machine(),
        "bytes_per_entry": total / size,
        "rows": rows,
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--entries", type=int, default=131_072)
    parser.add_argument("--signed", type=int, default=32_768, help="entries of the log whose signatures are verified")
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    figures = main(options)
    if options.json:
        options.json.write_text(json.dumps(figures, indent=1), encoding="utf-8")
