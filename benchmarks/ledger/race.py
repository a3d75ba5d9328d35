"""Many writers on one ledger directory, some of them killed: is every acknowledged entry there, once?

    python -m benchmarks.ledger.race --seconds 20 --kills 15
    python -m benchmarks.ledger.race --seconds 5 --kills 4 --seed 7 --json

Members of three kinds append pictures of their own and tell each acknowledgement (`accepted`: index and leaf hash):

    server    a process that opens the ledger for itself, as each worker of a web server does
    loader    a process that opens it and forks two workers, which use what they inherited, as a data loader's do
    threads   a process with three threads

One of them sequences, the others enqueue in the vault. At moments drawn from the seed a member dies by SIGKILL, every
other time the one that sequences, and another of its kind takes its place. At the end the survivors close, the ledger
is opened, must publish, and is counted:

    lost      acknowledged entries that are not at their index, or whose record is not in the vault
    doubled   entries about a picture that was submitted once
    unsound   findings of fsck
    errors    what members reported beside timeouts

Exit code 1 if any of these is not zero.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import json
import os
import random
import select
import signal
import sys
import tempfile
import threading
import time
import traceback
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from plausible.ledger import Ledger
from plausible.ledger.entries.digests import pixel_digest
from plausible.ledger.entries.entry import parse_entry
from plausible.ledger.fsck import check_ledger
from plausible.ledger.merkle.tiles import WIDTH
from plausible.ledger.merkle.tree import hash_leaf
from plausible.ledger.storage.lock import LOCK_FILE
from plausible.ledger.storage.lookup import read_bundle
from plausible.ledger.writing.receipt import NotYet
from plausible.schemas.errors import PlausibleError

from benchmarks.ledger.cycles import WITNESSES, picture, prepare

KINDS = ("server", "loader", "threads")
FAILURES = ("lost", "doubled", "unsound", "errors")
_PR_SET_CHILD_SUBREAPER = 36
_PER_WRITER = 1 << 12
"""Pictures that one writer can make before its numbers would be the next one's."""


# --- a member ---


@dataclass(frozen=True, slots=True)
class Place:
    """What a member needs: the ledger, the pipe it tells to, the file whose appearance ends it."""

    ledger: Path
    pipe: int
    stop: Path

    def tell(self, **values: Any) -> None:
        """One line; shorter than a pipe's atomic write, so that lines of many processes do not mix."""
        os.write(self.pipe, (json.dumps(values)[:2000] + "\n").encode())


def _append(ledger: Ledger, place: Place, writer: int) -> None:
    """Append until told to stop, telling every acknowledgement the moment it is there."""
    for number in range(writer * _PER_WRITER, (writer + 1) * _PER_WRITER):
        if place.stop.exists():
            return
        try:
            receipt = ledger.append(image=picture(number), model="m").wait("accepted", 20)
        except NotYet:
            place.tell(timeout=number)
            continue
        assert receipt.leaf is not None
        place.tell(number=number, index=receipt.index, leaf=receipt.leaf.hex(), sequencing=ledger.sequencing)


def _live(kind: str, place: Place, writers: list[int]) -> None:
    ledger = Ledger.open(place.ledger)
    if kind == "server":
        _append(ledger, place, writers[0])
    elif kind == "threads":
        threads = [threading.Thread(target=_append, args=(ledger, place, writer)) for writer in writers]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    else:
        children = [_fork(lambda writer=writer: _worker(ledger, place, writer)) for writer in writers[1:]]
        place.tell(member=os.getpid(), workers=children)
        _append(ledger, place, writers[0])
        for child in children:
            os.waitpid(child, 0)
    ledger.close()


def _worker(ledger: Ledger, place: Place, writer: int) -> None:
    _append(ledger, place, writer)
    ledger.close()


def _fork(run: Any, place: Place | None = None) -> int:
    child = os.fork()
    if child:
        return child
    try:
        run()
    except BaseException:  # noqa: BLE001  (told, and the process ends)
        if place is not None:
            place.tell(error=traceback.format_exc()[-1500:])
        else:
            traceback.print_exc()
            os._exit(3)
    finally:
        os._exit(0)


# --- the race ---


@dataclass(slots=True)
class Race:
    """Members, and what they told."""

    place: Place
    rng: random.Random
    members: dict[int, str] = field(default_factory=dict[int, str])
    workers: set[int] = field(default_factory=set[int])
    acknowledged: dict[int, tuple[int, str]] = field(default_factory=dict[int, tuple[int, str]])
    sequencers: set[int] = field(default_factory=set[int])
    counts: Counter[str] = field(default_factory=Counter[str])
    remarks: list[str] = field(default_factory=list[str])
    writers: int = 1
    rest: bytes = b""

    def start(self, kind: str) -> None:
        """One more member of this kind."""
        count = 1 if kind == "server" else 3
        writers = list(range(self.writers, self.writers + count))
        self.writers += count
        self.members[_fork(lambda: _live(kind, self.place, writers), self.place)] = kind

    def hear(self, pipe: int, seconds: float) -> None:
        """Take in what is told for so long."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            if not select.select([pipe], [], [], left)[0]:
                return
            *lines, self.rest = (self.rest + os.read(pipe, 1 << 16)).split(b"\n")
            for line in lines:
                self._take(json.loads(line))

    def _take(self, told: dict[str, Any]) -> None:
        if "number" in told:
            self.acknowledged[told["number"]] = (told["index"], told["leaf"])
            self.counts["by the sequencer" if told["sequencing"] else "by others"] += 1
        elif "workers" in told:
            self.workers.update(told["workers"])
        elif "timeout" in told:
            self.counts["timeouts"] += 1
        else:
            self.counts["errors"] += 1
            self.remarks.append(told["error"])

    def kill(self) -> None:
        """Kill one: every other time who sequences, else any member or worker."""
        holder = self._holder()
        if holder is not None:
            self.sequencers.add(holder)
        victim = holder if holder is not None and self.counts["kills"] % 2 == 0 else None
        if victim is None:
            victim = self.rng.choice([*self.members, *self.workers])
        try:
            os.kill(victim, signal.SIGKILL)
        except ProcessLookupError:
            self.workers.discard(victim)
            return
        self.counts["kills"] += 1
        self.counts["killed sequencers"] += victim == holder
        self.workers.discard(victim)
        if victim in self.members:
            os.waitpid(victim, 0)
            self.start(self.members.pop(victim))

    def _holder(self) -> int | None:
        text = (self.place.ledger / LOCK_FILE).read_text().strip()
        pid = int(text) if text.isdigit() else 0
        return pid if pid in self.members or pid in self.workers else None

    def end(self, pipe: int, patience: float) -> None:
        """Tell everybody to stop, and hear them out."""
        self.place.stop.touch()
        end = time.monotonic() + patience
        left = {*self.members}
        while left and time.monotonic() < end:
            self.hear(pipe, 0.1)
            left -= {pid for pid in left if os.waitpid(pid, os.WNOHANG)[0]}
        for pid in left:
            self.counts["errors"] += 1
            self.remarks.append(f"process {pid} ({self.members[pid]}) did not end")
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
        # workers whose parent was killed end by themselves
        while any(_lives(pid) for pid in self.workers) and time.monotonic() < end:
            self.hear(pipe, 0.1)
        self.hear(pipe, 0.2)


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
        return os.waitpid(pid, os.WNOHANG)[0] == 0  # an orphan of ours: nobody else will ask how it ended
    except ProcessLookupError:
        return False
    except ChildProcessError:
        return True  # its parent still lives


def _adopt_orphans() -> None:
    """Workers whose parent was killed become children of this process, where the system can do that (Linux)."""
    with contextlib.suppress(AttributeError, OSError):
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def count(race: Race) -> None:
    """Open the ledger, publish, and hold it against what was acknowledged."""
    with Ledger.open(race.place.ledger) as ledger:
        ledger.flush()
        size = ledger.checkpoint().size
        leaves = [leaf for number in range(-(-size // WIDTH)) for leaf in read_bundle(ledger.log, number, size)]
        pixels: Counter[bytes] = Counter()
        unopened = 0
        for leaf in leaves:
            generation = parse_entry(leaf).generation
            if generation is not None:
                pixels[generation.pixels] += 1
                try:
                    ledger.vault.record(generation.commitment)
                except PlausibleError:
                    unopened += 1
    for number, (index, leaf) in race.acknowledged.items():
        there = index < size and hash_leaf(leaves[index]).hex() == leaf
        generation = parse_entry(leaves[index]).generation if there else None
        if generation is None or generation.pixels != pixel_digest(picture(number)):
            race.counts["lost"] += 1
            race.remarks.append(f"picture {number}, acknowledged at {index}")
    race.counts["lost"] += unopened
    race.counts["doubled"] += sum(found - 1 for found in pixels.values())
    race.counts["entries"] = size
    for finding in check_ledger(race.place.ledger).findings:
        race.counts["unsound"] += 1
        race.remarks.append(f"{finding.file}: {finding.what}")


def run(folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Run the race; what came of it, as printed with --json."""
    ledger = folder / "race.ledger"
    prepare(ledger, 1, witnesses=() if options.alone else WITNESSES)
    _adopt_orphans()
    ours, theirs = os.pipe()
    rng = random.Random(options.seed)
    race = Race(Place(ledger, theirs, folder / "stop"), rng)
    for number in range(options.members):
        race.start(KINDS[number % len(KINDS)])
    moments = sorted(rng.uniform(0.1, 0.9) * options.seconds for _ in range(options.kills))
    began = time.monotonic()
    for moment in moments:
        race.hear(ours, max(0.01, moment - (time.monotonic() - began)))
        race.kill()
    race.hear(ours, max(0.1, options.seconds - (time.monotonic() - began)))
    race.end(ours, options.patience)
    race.counts["acknowledged"] = len(race.acknowledged)
    race.counts["sequencers seen"] = len(race.sequencers)
    count(race)
    names = ("acknowledged", "by the sequencer", "by others", "entries", "kills", "killed sequencers",
             "sequencers seen", "timeouts", *FAILURES)  # fmt: skip
    return {
        "format": "plausible.race/1",
        "seed": options.seed,
        "members": options.members,
        "seconds": options.seconds,
        "counts": {name: race.counts[name] for name in names},
        "remarks": race.remarks[:100],
    }


def main(arguments: list[str] | None = None) -> int:
    """Print the counts; 1 for any failure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=20.0, help="how long they write")
    parser.add_argument("--kills", type=int, default=15, help="how many die meanwhile")
    parser.add_argument(
        "--members", type=int, default=6, help="members: servers, loaders, processes with threads in turn"
    )
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--alone", action="store_true", help="quorum none instead of three witnesses")
    parser.add_argument("--patience", type=float, default=120.0, help="seconds the survivors have for closing")
    parser.add_argument("--json", action="store_true", help="the result as JSON on stdout")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="race-") as folder:
        result = run(Path(folder), options)
    if options.json:
        print(json.dumps(result, indent=1))
    else:
        for name, value in result["counts"].items():
            print(f"{name:20}{value:>8}")
    for remark in result["remarks"]:
        print(remark, file=sys.stderr)
    return 1 if any(result["counts"][name] for name in FAILURES) else 0


if __name__ == "__main__":
    sys.exit(main())
