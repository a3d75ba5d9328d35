"""How many entries a second a monitor checks, and what a look costs at a log that has nothing new.

    python -m benchmarks.node.monitor                               # 32,768 entries
    python -m benchmarks.node.monitor --entries 65536 --json monitor.json

A log of real entries in one chain (generations, signed, about 1.2 kB each) is read from its folder; every entry's form,
signature, chain and draw is checked and its leaf led to the signed head. With an index policy the index root is
recomputed too. Controls in the same run: the leaves read and hashed into the head alone, and one signature verified
after the other alone.
"""

from __future__ import annotations

import argparse
import json
import platform
import tempfile
import time
from pathlib import Path
from typing import Any

from plausible.ledger.absence.note import INDEX_NOTE
from plausible.ledger.absence.prove import recompute
from plausible.ledger.entries.entry import parse_entry
from plausible.ledger.log import Log
from plausible.ledger.merkle.reader import DirectorySource, TiledLog
from plausible.ledger.merkle.tree import CompactRange, hash_leaf
from plausible.ledger.notes.checkpoint import Checkpoint
from plausible.ledger.notes.note import Note, SignerKey
from plausible.node.conformance.chain import MadeChain
from plausible.node.monitor.directory import add, make
from plausible.node.monitor.service import open_monitor
from plausible.node.monitor.watch import Outcome

BATCH = 16_384
LOOKS = 50


def make_log(folder: Path, key: SignerKey, entries: int) -> None:
    """A log of one author's chain, with a checkpoint."""
    chain = MadeChain(SignerKey.generate("models.example/bench"))
    Log.create(folder, key).close()
    with Log.open(folder, key) as log:
        for start in range(0, entries, BATCH):
            log.append(chain.several(min(BATCH, entries - start)))
            log.publish()
            log.sync()
        log.public.write_checkpoint(log.head.size, log.head.note)


def look(folder: Path, times: int = 1) -> tuple[float, int]:
    """(seconds of one look on average, entries checked); anything but a sound log ends the run."""
    outcomes: list[Outcome] = []
    with open_monitor(folder) as monitor:
        began = time.perf_counter()
        for _ in range(times):
            if monitor.once(outcomes.append) != 0:
                raise SystemExit(f"the log is not sound: {outcomes[-1].findings}")
        return (time.perf_counter() - began) / times, outcomes[-1].size


def main(arguments: argparse.Namespace) -> dict[str, Any]:
    """Run and return the figures."""
    rows: list[dict[str, Any]] = []

    def row(name: str, entries: int, seconds: float) -> None:
        print(f"{name:52} {entries / seconds:9,.0f} entries/s  (n = {entries:,}, {seconds:.2f} s)", flush=True)
        rows.append({"name": name, "entries": entries, "seconds": seconds, "entries_per_second": entries / seconds})

    with tempfile.TemporaryDirectory() as temporary:
        root, key = Path(temporary), SignerKey.generate("log.example/bench")
        index = SignerKey.generate("log.example/bench/index")
        make_log(root / "log", key, arguments.entries)
        log = TiledLog(DirectorySource(root / "log" / "public"))
        head = Checkpoint.parse(Note.parse(log.checkpoint_bytes()).text)

        began, edge = time.perf_counter(), CompactRange()
        for leaf in log.entries(0, head.size, head.size):
            edge.append(hash_leaf(leaf))
        if edge.root() != head.root:
            raise SystemExit("the log's entries do not give its head")
        row("control: entries read and hashed into the head", head.size, time.perf_counter() - began)

        few = list(log.entries(0, min(4096, head.size), head.size))
        began = time.perf_counter()
        for leaf in few:
            entry = parse_entry(leaf)
            entry.envelope.verify(entry.author)
        row("control: form and signature alone", len(few), time.perf_counter() - began)

        policy, indexes = f"log {key.verifier}\nquorum none\n", f"log {index.verifier}\nquorum none\n"
        for number in range(arguments.repeat):
            make(root / f"m{number}")
            add(root / f"m{number}", policy.encode(), url=str(root / "log"))
            row("every entry checked, from nothing", head.size, look(root / f"m{number}")[0])
        idle, _ = look(root / "m0", LOOKS)
        print(f"{'a look at a log with nothing new':52} {idle * 1e3:9.1f} ms         (n = {LOOKS})", flush=True)

        note = recompute(log, head).sign(index)
        (root / "log" / "public" / INDEX_NOTE).parent.mkdir(exist_ok=True)
        (root / "log" / "public" / INDEX_NOTE).write_bytes(note.encode())
        make(root / "indexed")
        add(root / "indexed", policy.encode(), url=str(root / "log"), index_policy=indexes.encode())
        row("every entry checked and the index root recomputed", head.size, look(root / "indexed")[0])
    return {
        "format": "plausible.bench-monitor/1",
        "machine": f"{platform.platform()}, Python {platform.python_version()}",
        "rows": rows,
        "idle_look_seconds": {"mean": idle, "n": LOOKS},
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--entries", type=int, default=32_768)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    result = main(given)
    if given.json is not None:
        given.json.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
