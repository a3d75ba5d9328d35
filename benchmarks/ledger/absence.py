"""The absence index: updates in batches, proofs made and verified, against the number of keys.

    python -m benchmarks.ledger.absence
    python -m benchmarks.ledger.absence --sizes 10000 100000 --json

The map is grown to each size, then takes batches of 1,000 new keys, as random as digests are, with the new root read
after each batch:

    memory    the map alone, its pages in memory
    file      pages in absence.db, written when they have become many (the mean includes those writes) and at the end
    each      the same, written and committed with every batch

Proofs of absence are made from `file` (warm: by the map that took the updates; cold: by one just opened, its first
proof) and verified, one key each; their bytes are a proof file's part for one key without the signed notes. `entries`
is the way from a log: real entries with both digests read from bundles, hashed to the tree, parsed, and indexed; then
as `pd log index` does it, from a file that is opened, caught up by 1,000 entries, written and signed each time.

Seconds are this process's own CPU time, so that a busy machine shows less; wall time stands beside. The control is bare
SHA-256 over 65 bytes, the size of an inner node, in the same process; an update recomputes about log2(keys) such nodes.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from plausible.ledger.absence.keys import PIXELS, index_key
from plausible.ledger.absence.note import IndexHead
from plausible.ledger.absence.pages import ABSENCE_FILE, PageFile, Progress
from plausible.ledger.absence.proof import AbsenceProof, KeyProof, verify_key
from plausible.ledger.absence.store import UNWRITTEN_PAGES, AbsenceStore
from plausible.ledger.absence.trie import IndexMap, MemoryPages
from plausible.ledger.entries.entry import sign_entry
from plausible.ledger.merkle.reader import TiledLog
from plausible.ledger.merkle.tiles import tiles_to_write
from plausible.ledger.merkle.tree import CompactRange, MemoryTree, hash_leaf
from plausible.ledger.notes.checkpoint import Checkpoint
from plausible.ledger.notes.note import ED25519, SignerKey
from plausible.schemas.statement import NO_PREVIOUS, GenerationStatement, Header

BATCH = 1_000
Timed = tuple[float, float]


def key(number: int, word: bytes = b"key") -> bytes:
    """Key `number`, as random as a digest's."""
    return index_key(PIXELS, hashlib.sha256(word + number.to_bytes(8, "big")).digest())


def keys(start: int, count: int) -> list[tuple[bytes, int]]:
    """A batch: keys and their indices."""
    return [(key(number), number) for number in range(start, start + count)]


def control(n: int = 100_000) -> float:
    """Seconds of one bare SHA-256 over 65 bytes."""
    data, sha256 = bytes(65), hashlib.sha256
    start = time.process_time()
    for _ in range(n):
        sha256(data).digest()
    return (time.process_time() - start) / n


def timed(work: Callable[..., Any], *arguments: Any) -> Timed:
    """(CPU, wall) seconds of one call."""
    cpu, wall = time.process_time(), time.perf_counter()
    work(*arguments)
    return time.process_time() - cpu, time.perf_counter() - wall


class Grown:
    """A map that grows; `write` says when its pages go to the file: `many`, `each`, or never (memory)."""

    def __init__(self, path: Path | None, write: str) -> None:
        self.path, self.write, self.size = path, write, 0
        self.file = PageFile(path) if path is not None else None
        if self.file is not None:
            self.file.begin()
        self.index = IndexMap(self.file if self.file is not None else MemoryPages())

    def take(self, items: list[tuple[bytes, int]]) -> None:
        """One batch, with its root."""
        self.index.add(items)
        self.index.root()
        self.size += len(items)
        if self.file is not None and (self.write == "each" or self.file.unwritten > UNWRITTEN_PAGES):
            self.flush()

    def flush(self) -> None:
        """Write what is not written."""
        if self.file is not None and not self.file.flush(Progress(self.size, b"", self.index.root())):
            raise SystemExit("another process wrote to the benchmark's file")

    def grow(self, size: int) -> None:
        """To a size, in larger batches."""
        while self.size < size:
            self.take(keys(self.size, min(20 * BATCH, size - self.size)))
        self.flush()


def updates(grown: Grown, batches: int) -> dict[str, float]:
    """Seconds per key over batches of 1,000; what the last of them left unwritten is written within the clock."""
    times = [timed(grown.take, keys(grown.size, BATCH)) for _ in range(batches)]
    last = timed(grown.flush)
    cpu, wall = (sum(t[i] for t in times) + last[i] for i in (0, 1))
    return {
        "mean_s": cpu / batches / BATCH,
        "wall_mean_s": wall / batches / BATCH,
        "median_batch_s": statistics.median(t[0] for t in times) / BATCH,
        "keys_per_s": batches * BATCH / cpu,
    }


def proofs(grown: Grown, count: int) -> dict[str, Any]:
    """Proofs of absence under the map's root: made warm and cold, verified, and their size."""
    root, end = grown.index.root(), grown.size
    absent = [key(number, b"absent") for number in range(count)]
    made: list[KeyProof] = []

    def prove(which: bytes, index: IndexMap) -> None:
        made.append(index.prove(which))

    warm = [timed(prove, which, grown.index) for which in absent]
    checked = [timed(verify_key, proof, which, root, end) for proof, which in zip(made, absent, strict=True)]
    width = [
        len(AbsenceProof({1: which}, {1: proof}, b"", b"").encode_keys())
        for proof, which in zip(made, absent, strict=True)
    ]
    cold: list[Timed] = []
    for which in absent[: min(50, count)]:
        if grown.path is None:
            break
        with contextlib.closing(PageFile(grown.path)) as file:
            file.begin()
            cold.append(timed(prove, which, IndexMap(file)))
    return {
        "n": count,
        "make_s": _spread([cpu for cpu, _ in warm]),
        "make_cold_s": _spread([cpu for cpu, _ in cold]),
        "verify_s": _spread([cpu for cpu, _ in checked]),
        "bytes": {"median": statistics.median(width), "max": max(width)},
    }


def _spread(values: list[float]) -> dict[str, float]:
    return {"median": statistics.median(values), "p95": statistics.quantiles(values, n=20)[18]}


def measure(folder: Path, sizes: list[int], batches: int, count: int) -> Iterator[dict[str, Any]]:
    """One row per size."""
    maps = {
        "memory": Grown(None, ""),
        "file": Grown(folder / "many.db", "many"),
        "each": Grown(folder / "each.db", "each"),
    }
    for size in sizes:
        row: dict[str, Any] = {"keys": size, "n_batches": batches, "control_s": control()}
        for name, grown in maps.items():
            grown.grow(size)
            row[name] = updates(grown, batches)
        row["proof"] = proofs(maps["file"], count)
        row["file_bytes"] = sum(part.stat().st_size for part in folder.glob("many.db*"))
        yield row


class _Served:
    """A log's tiles and bundles in memory."""

    def __init__(self, leaves: list[bytes]) -> None:
        tree = MemoryTree(map(hash_leaf, leaves))
        self._files = dict(tiles_to_write(0, leaves, tree.get, leaves.__getitem__))

    def fetch(self, path: str, limit: int) -> bytes | None:
        """The file at a path."""
        return self._files.get(path)


def entries(count: int) -> dict[str, Any]:
    """Seconds per entry from served bundles to the index, both digests logged."""
    author = SignerKey("author.example", ED25519, bytes(32))
    header = Header(
        author=author.verifier.encode(), chain="00" * 16, prev=NO_PREVIOUS, seq=0, time="2026-01-01T00:00:00.000000Z"
    )
    leaves: list[bytes] = []
    tree = CompactRange()
    for number in range(count):
        digests = [hashlib.sha256(b"%d %d" % (kind, number)).digest() for kind in (1, 2)]
        statement = GenerationStatement.make(
            header, commitment=bytes(32), draw=number, model=bytes(32), pixels=digests[0], file=digests[1]
        )
        leaves.append(sign_entry(statement, author))
        tree.append(hash_leaf(leaves[-1]))
    log = TiledLog(_Served(leaves))
    log.root(count)  # the widest tiles first: smaller sizes are read from them

    def catch_up() -> None:
        with AbsenceStore(None).at(log, Checkpoint("log.example", count, tree.root())):
            pass

    cpu, wall = timed(catch_up)
    heads = [Checkpoint("log.example", size, log.root(size)) for size in range(BATCH, count + 1, BATCH)]
    signer = SignerKey("log.example/index", ED25519, bytes([1]) * 32)
    with tempfile.TemporaryDirectory() as folder:

        def sign(head: Checkpoint) -> None:
            with AbsenceStore(Path(folder) / ABSENCE_FILE, signer=signer).at(log, head) as index:
                IndexHead.of(head, index.root()).sign(signer)

        kept = [timed(sign, head) for head in heads]
    return {
        "n": count,
        "s": cpu / count,
        "wall_s": wall / count,
        "entries_per_s": count / cpu,
        "kept_s": statistics.median(cpu for cpu, _ in kept) / BATCH,
    }


def main() -> None:
    """Print the table, or one JSON document."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=[10_000, 100_000, 1_000_000], metavar="KEYS")
    parser.add_argument("--batches", type=int, default=50, help="batches of 1,000 keys per size")
    parser.add_argument("--proofs", type=int, default=1_000, help="proofs per size")
    parser.add_argument("--json", action="store_true", help="one document on stdout")
    options = parser.parse_args()
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        for row in measure(Path(folder), sorted(options.sizes), options.batches, options.proofs):
            rows.append(row)
            if not options.json:
                _print(row)
    from_log = entries(3_000)
    if options.json:
        json.dump({"format": "plausible.bench-absence/1", "sizes": rows, "entries": from_log}, sys.stdout, indent=1)
        print()
        return
    print(f"from served entries, both digests, n = {from_log['n']}: {from_log['s'] * 1e6:.0f} us an entry")
    kept = f"{from_log['kept_s'] * 1e6:.0f} us an entry"
    print(f"the same into a file that is opened, written and sealed for each {BATCH:,}: {kept}")
    print("targets at 1,000,000 keys: a proof made under 1 ms, verified under 0.2 ms, at most 2,048 bytes")


def _print(row: dict[str, Any]) -> None:
    proof = row["proof"]
    print(f"{row['keys']:,} keys ({row['n_batches']} batches of {BATCH:,}; SHA-256 {row['control_s'] * 1e6:.2f} us)")
    for name in ("memory", "file", "each"):
        one = row[name]
        ratio = one["mean_s"] / row["control_s"]
        print(
            f"  update, {name:6} {one['mean_s'] * 1e6:6.1f} us a key ({one['keys_per_s']:,.0f}/s, {ratio:.0f} controls)"
        )
    for name, what in (("make_s", "made, warm"), ("make_cold_s", "made, cold"), ("verify_s", "verified")):
        print(f"  proof {what:10} median {proof[name]['median'] * 1e6:6.0f} us, p95 {proof[name]['p95'] * 1e6:6.0f} us")
    print(f"  proof bytes      median {proof['bytes']['median']:.0f}, max {proof['bytes']['max']} (n = {proof['n']})")
    print(f"  absence.db       {row['file_bytes'] / 1e6:.0f} MB", flush=True)


if __name__ == "__main__":
    main()
