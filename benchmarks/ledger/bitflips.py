"""One bit flipped at a time, anywhere in a ledger directory: does fsck find it?

    python -m benchmarks.ledger.bitflips -n 200

A ledger of a few hundred entries is made; for each flip one random bit of one random file (kinds of files in turn, so
that small ones are not forgotten) is changed, fsck runs in this process, and the bit is put back. Counted per kind:

    found      a finding, hence a non-zero exit
    unchanged  every logical read is what it was: SQLite's free space, a line break at the end of a key file
    choice     log.toml, policy.txt or authors.txt still read: what people wrote there has no second copy
    harmless   state.db's `synced_size` or reserved draws say something else that is as true (docs/ledger.md)
    missed     anything else, and exit 1
"""

from __future__ import annotations

import argparse
import contextlib
import random
import sqlite3
import sys
import tempfile
from collections import Counter
from pathlib import Path

import numpy as np
from plausible.ledger import Ledger
from plausible.ledger.absence.note import IndexHead, IndexPolicy
from plausible.ledger.absence.pages import ABSENCE_FILE
from plausible.ledger.absence.prove import publish
from plausible.ledger.absence.store import AbsenceStore
from plausible.ledger.entries.digests import model_manifest
from plausible.ledger.fsck import check_ledger
from plausible.ledger.notes.note import ED25519, SignerKey
from plausible.ledger.storage.lookup import LOOKUP_VERSION

CHOICES = ("log.toml", "policy.txt", "authors.txt")
OUTCOMES = ("found", "unchanged", "choice", "harmless", "missed")
INDEX_KEYS = tuple(
    SignerKey(f"{name}/index", ED25519, bytes([number]) * 32)
    for number, name in enumerate(("bench.example/studio/log", "monitor.example"), 1)
)
INDEX_POLICY = IndexPolicy.parse(
    f"log {INDEX_KEYS[0].verifier}\nwitness m {INDEX_KEYS[1].verifier}\nquorum m\n".encode()
)
# values of state.db that nothing else determines: a lower synced_size is derived again, a gap in the draws is allowed
UNDETERMINED = {"log": "synced_size", "chain": "draw"}


def make(path: Path, entries: int) -> None:
    """A closed ledger: three witnesses, a model, two heads, a lookup index, an absence index sealed at both of them."""
    rng = np.random.default_rng(1)
    kept = AbsenceStore(path / ABSENCE_FILE, signer=INDEX_KEYS[0])
    with Ledger.init(path, author="bench.example/studio", witnesses=("a.example", "b.example", "c.example")) as ledger:
        sampling = {"output_range": [-1, 1], "rounding": "mul127.5_add128_trunc"}
        manifest = model_manifest("bench", {"latent": 4}, sampling, [("w", "float32", [1], bytes(32))])
        ledger.register_model("m", manifest=manifest)
        for number in range(entries - 1):
            ledger.append(image=rng.integers(0, 256, (8, 8, 3), dtype=np.uint8), model="m", latent=[0.5] * 4)
            if number == entries // 3:
                ledger.flush()
                with kept.at(ledger.log, ledger.checkpoint().checkpoint):
                    pass
        ledger.flush()
        ledger.find(model=bytes(32))
        at = ledger.checkpoint().checkpoint
        with kept.at(ledger.log, at) as index:
            publish(ledger.public, IndexHead.of(at, index.root()).sign(*INDEX_KEYS))


def kind_of(path: Path, root: Path) -> str:
    """The kind of file, for the table."""
    name = path.relative_to(root).as_posix()
    if name.startswith("public/tile/"):
        level = name.split("/")[2]
        return f"{'bundle' if level == 'entries' else f'tile level {level}'}{', partial' if '.p/' in name else ''}"
    if name.startswith("public/checkpoints/"):
        return "kept checkpoint"
    parts = name.split("/")
    return f"{parts[0]}/" if len(parts) > 1 and parts[0] != "public" else parts[-1]


def logical(path: Path) -> object:
    """What a reader gets from a database, or from a key file; the bytes of any other file."""
    if path.suffix == ".key":
        return path.read_bytes().strip()
    if path.suffix != ".db":
        return path.read_bytes()
    try:
        with contextlib.closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)) as db:
            if path.name == "lookup.db" and db.execute("PRAGMA user_version").fetchone()[0] != LOOKUP_VERSION:
                return "made anew"
            names = [row[0] for row in db.execute("SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name")]
            dump: dict[str, list[dict[str, object]]] = {}
            for name in names:
                cursor = db.execute(f'SELECT * FROM "{name}"')
                columns = [column[0] for column in cursor.description]
                dump[name] = sorted((dict(zip(columns, row, strict=True)) for row in cursor), key=repr)
            return dump
    except sqlite3.Error as error:
        return repr(error)


def judge(path: Path, before: object) -> str:
    """What a flip that fsck did not find has changed."""
    after = logical(path)
    if after == before or after == "made anew":
        return "unchanged"
    if path.name in CHOICES:
        return "choice"
    if path.name == "state.db" and isinstance(before, dict) and isinstance(after, dict):
        for dump in (before, after):
            for table, column in UNDETERMINED.items():
                for row in dump.get(table, []):
                    row.pop(column, None)
        if before == after:
            return "harmless"
    return "missed"


def run(root: Path, count: int, seed: int) -> Counter[tuple[str, str]]:
    """Flip `count` bits, one at a time; (kind, outcome) -> how often."""
    rng = random.Random(seed)
    files: dict[str, list[Path]] = {}
    for path in sorted(root.rglob("*")):
        if path.is_file() and path.stat().st_size and path.name != "lock":
            files.setdefault(kind_of(path, root), []).append(path)
    sound = check_ledger(root, index_policy=INDEX_POLICY)
    if sound.findings:
        raise SystemExit(f"the ledger is not sound to begin with: {sound.findings[0]}")
    counts: Counter[tuple[str, str]] = Counter()
    kinds = sorted(files)
    for number in range(count):
        kind = kinds[number % len(kinds)]
        path = rng.choice(files[kind])
        data, before = path.read_bytes(), logical(path)
        place, bit = rng.randrange(len(data)), rng.randrange(8)
        changed = bytearray(data)
        changed[place] ^= 1 << bit
        path.write_bytes(changed)
        report = check_ledger(root, index_policy=INDEX_POLICY)
        outcome = "found" if report.exit_code else judge(path, before)
        if outcome == "missed":
            print(f"missed: {path.relative_to(root)}, byte {place}, bit {bit}", flush=True)
        counts[kind, outcome] += 1
        for stray in path.parent.glob(f"{path.name}-*"):  # what SQLite made while it read a changed file
            stray.unlink()
        path.write_bytes(data)
    return counts


def main() -> int:
    """Print the table; 1 if a flip was missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-n", type=int, default=200, help="flips")
    parser.add_argument("--entries", type=int, default=300, help="entries of the ledger")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "bench.ledger"
        make(root, options.entries)
        counts = run(root, options.n, options.seed)
    kinds = sorted({kind for kind, _ in counts})
    print(f"{'kind of file':28}" + "".join(f"{outcome:>11}" for outcome in OUTCOMES))
    for kind in kinds:
        print(f"{kind:28}" + "".join(f"{counts[kind, outcome]:>11}" for outcome in OUTCOMES))
    totals = [sum(counts[kind, outcome] for kind in kinds) for outcome in OUTCOMES]
    print(f"{'all':28}" + "".join(f"{total:>11}" for total in totals))
    return 1 if totals[-1] else 0


if __name__ == "__main__":
    sys.exit(main())
