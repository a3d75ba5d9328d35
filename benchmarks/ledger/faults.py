"""The crash matrix: every file-system call of a writer fails once, and nothing acknowledged may be lost by it.

    python -m benchmarks.ledger.faults --progress         # all cycles, all calls, EIO, ENOSPC and SIGKILL (make faults)
    python -m benchmarks.ledger.faults --cycle repair --fault EIO --call fsync
    python -m benchmarks.ledger.faults --sample 30        # every so many-th case only, always the same ones

A cycle (cycles.py) is first run unharmed under strace and the calls of each of its threads are counted. Then, for every
one of these calls and every fault, it runs again over a fresh copy of its folder with `strace -e inject=` harming this
one call (SIGKILL: the process dies before the call is made); the ledger is opened again unharmed, must publish one
more entry, and is looked at:

    losses          acknowledged entries that are not at their index, or whose record is not in the vault
    doubles         entries about a picture that was submitted once
    contradictions  signed heads, ever seen in public/ or sent to a witness, that the final tree does not continue
    went on         promises made by a process after one of its flushes failed
    unsound         findings of fsck
    stuck           the ledger does not open again, or does not publish
    bugs            errors of another type than the project's own, and processes that hang

Exit code 1 if any of these is not zero. `refused` counts the errors that the harmed process reported: they are right.
Needs strace (Debian: apt-get install strace) and the right to trace one's own processes. Linux only.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Generator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from plausible.ledger import Ledger
from plausible.ledger.entries.entry import parse_entry
from plausible.ledger.fsck import check_ledger
from plausible.ledger.merkle.tiles import WIDTH
from plausible.ledger.merkle.tree import MemoryTree, hash_leaf
from plausible.ledger.notes.checkpoint import open_checkpoint
from plausible.ledger.storage.lookup import read_bundle
from plausible.ledger.vault.vault import VAULT_FILE, Vault
from plausible.schemas.errors import PlausibleError

from benchmarks.ledger.cycles import CYCLES, WITNESSES, Cycle, reopen, run_forked, stacks_of

SPACE = (
    "open", "openat", "write", "pwrite64", "writev", "fsync", "fdatasync", "sync_file_range", "ftruncate", "fallocate",
    "rename", "renameat", "renameat2", "link", "linkat", "mkdir", "mkdirat",
)  # fmt: skip
"""Calls that can find the disk full."""
CHANGES = (*SPACE, "unlink", "unlinkat", "rmdir", "chmod", "fchmod")
"""Calls that change what is stored (or may): a kill before any other call is a kill before the next of these."""
READS = ("read", "pread64", "stat", "lstat", "newfstatat", "fstat", "statx", "getdents64")
LOCKS = ("flock", "fcntl")
CALLS = (*CHANGES, *READS, *LOCKS)
"""File-system calls on x86-64 and arm64; those a machine does not have are left out by strace's `?`."""
FLUSHES = ("fsync", "fdatasync", "sync_file_range")
FAULTS = {"EIO": "error=EIO", "ENOSPC": "error=ENOSPC", "SIGKILL": "signal=KILL"}
HARMS = {"EIO": (*CHANGES, *READS), "ENOSPC": SPACE, "SIGKILL": CHANGES}
"""Which calls suffer which fault; with --every all suffer all, locks included."""
FAILURES = ("losses", "doubles", "contradictions", "went on", "unsound", "stuck", "bugs")
LIMIT = 60.0
"""Seconds a cycle may take before it counts as one that hangs."""

_TRACE = "trace=" + ",".join(f"?{name}" for name in CALLS)
_FLUSH = re.compile(r"^(?:\d+ +)?(\d+\.\d+) \w+\(\d+<([^>]*)>")
_CALL = re.compile(r"^(?:\d+ +)?(\d+\.\d+) (\w+)\(")


class NoTraceError(Exception):
    """strace is absent or may not attach."""


@dataclass(frozen=True, slots=True)
class Case:
    """One cell: the nth call of this name in this thread of a cycle suffers this fault."""

    cycle: str
    thread: str
    call: str
    number: int
    fault: str

    def __str__(self) -> str:
        return f"{self.cycle}: {self.fault} at {self.call} {self.number} of the {self.thread} thread"


@dataclass(slots=True)
class Told:
    """What a cycle told, and how it ended."""

    packets: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    ended: bool = False
    hung: bool = False

    def of(self, what: str) -> list[dict[str, Any]]:
        """The packets of one kind, in order."""
        return [packet for packet in self.packets if packet["what"] == what]


@dataclass(slots=True)
class Outcome:
    """What came of a case; `harm` is the line of strace, empty if the call was not reached."""

    harm: str = ""
    counts: Counter[str] = field(default_factory=Counter[str])
    remarks: list[str] = field(default_factory=list[str])

    def bad(self, kind: str, remark: str) -> None:
        """Count a failure and say what it was."""
        self.counts[kind] += 1
        self.remarks.append(f"{kind}: {remark}")


# --- running ---


@contextlib.contextmanager
def _attached(thread: int, options: list[str], output: Path) -> Generator[None]:
    """strace on one thread (without -f: the calls of others are neither counted nor harmed)."""
    command = ["strace", "-p", str(thread), "-y", "-ttt", "-o", str(output), "-e", _TRACE, *options]
    tracer = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    assert tracer.stderr is not None
    line = tracer.stderr.readline()
    if "attached" not in line:
        tracer.kill()
        tracer.wait()
        raise NoTraceError(f"strace cannot attach to a process: {line.strip()}")
    try:
        yield
    finally:
        try:
            tracer.wait(5)
        except subprocess.TimeoutExpired:
            tracer.terminate()
            tracer.wait()
        tracer.stderr.close()


def run(
    cycle: Cycle, path: Path, thread: str = "", options: list[str] | None = None, output: Path | None = None
) -> Told:
    """Run a cycle in a process of its own; strace with `options` on one of its threads if it is named."""
    told = Told()
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, contextlib.ExitStack() as tracers:
        child = run_forked(cycle, path, theirs)
        theirs.close()
        ours.settimeout(LIMIT)
        try:
            while data := ours.recv(1 << 20):
                packet: dict[str, Any] = json.loads(data)
                told.packets.append(packet)
                if packet["what"] == "end":
                    told.ended = True
                elif packet["what"] == "thread":
                    if packet["thread"] == thread and output is not None and not output.exists():
                        tracers.enter_context(_attached(packet["id"], options or [], output))
                    ours.send(b"go")
        except TimeoutError:
            told.hung = True
        except (ConnectionError, BrokenPipeError):
            pass
        finally:
            if told.hung or sys.exc_info()[0] is not None:
                os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
    return told


def count_calls(cycle: Cycle, template: Path | None, folder: Path) -> dict[str, Counter[str]]:
    """thread -> how often it makes each call in an unharmed run."""
    counts: dict[str, Counter[str]] = {}
    for thread in cycle.threads:
        path = _fresh(template, folder)
        output = folder / "strace"
        output.unlink(missing_ok=True)
        told = run(cycle, path, thread, [], output)
        if not told.ended or told.of("refused") or told.of("bug"):
            raise SystemExit(f"{cycle.name} does not run unharmed: {told.of('refused') + told.of('bug')}")
        lines = output.read_text(errors="replace").splitlines()
        counts[thread] = Counter(match[2] for line in lines if (match := _CALL.match(line)))
    return counts


def _fresh(template: Path | None, folder: Path) -> Path:
    path = folder / "case.ledger"
    shutil.rmtree(path, ignore_errors=True)
    for left in folder.glob(".tmp-*"):
        shutil.rmtree(left)
    if template is not None:
        shutil.copytree(template, path, symlinks=True)
    return path


# --- judging ---


def run_case(case: Case, template: Path | None, folder: Path) -> Outcome:
    """Harm one call, open again, look."""
    outcome = Outcome()
    path = _fresh(template, folder)
    output = folder / "strace"
    output.unlink(missing_ok=True)
    inject = f"inject={case.call}:{FAULTS[case.fault]}:when={case.number}"
    told = run(CYCLES[case.cycle], path, case.thread, ["-e", inject], output)
    lines = output.read_text(errors="replace").splitlines() if output.exists() else []
    harmed = [line for line in lines if "(INJECTED)" in line]
    if case.fault == "SIGKILL" and not told.ended and not told.hung:
        harmed = [line for line in lines if _CALL.match(line)][-1:] or ["killed"]
    if not harmed:
        return outcome
    outcome.harm = harmed[0]
    outcome.counts["harmed"] += 1
    outcome.counts["refused"] += len(told.of("refused"))
    for packet in told.of("bug"):
        outcome.bad("bugs", f"{packet['doing']}: {packet['text']}")
    if told.hung:
        outcome.bad("bugs", "the process hangs")
    if case.fault == "EIO" and case.call in FLUSHES:
        _look_after_flush(lines, harmed[0], told, outcome)
    _look(path, told, outcome)
    if outcome.remarks:
        outcome.remarks += [f"told: {json.dumps(packet)[:300]}" for packet in told.of("refused")]
    return outcome


def _look_after_flush(lines: list[str], harm: str, told: Told, outcome: Outcome) -> None:
    """After a failed flush the process must promise nothing that hangs on it."""
    match = _FLUSH.match(harm)
    if match is None:
        outcome.bad("bugs", f"not understood: {harm}")
        return
    since, file = float(match[1]), Path(match[2])
    if " fdatasync(" in harm and _is_harmless(lines[: lines.index(harm)], file):
        return
    if file.parent.name == "witnesses":
        # the others may go on; this one must not vouch for anything any more
        name = file.name.split(".db")[0].rpartition("-")
        line = f"\n\N{EM DASH} {name[0]}/{name[2]} "
        for packet in told.of("note"):
            if packet["at"] > since and packet["where"] == "write_checkpoint" and line in packet["text"]:
                outcome.bad("went on", f"{file.name} failed and its witness cosigned")
        return
    if file.name == "witnesses":
        # one of them met this; which one is seen by who is missing from then on
        heads = [p["text"] for p in told.of("note") if p["at"] > since and p["where"] == "write_checkpoint"]
        if all(any(f"\n\N{EM DASH} {name} " in text for text in heads) for name in WITNESSES):
            outcome.bad("went on", "the witnesses' folder failed, and every witness cosigned")
        return
    for packet in told.of("promised"):
        if packet["at"] > since:
            outcome.bad("went on", packet["text"])


def _is_harmless(before: list[str], file: Path) -> bool:
    """Whether nothing hangs on a flush of SQLite's own (fdatasync; ours are fsync), failure of which it may ignore.

    * the folder of a new write-ahead log, if it was flushed before, by us;
    * a database file: what a checkpoint copies there stays in the write-ahead log until it was flushed;
    * a write-ahead log to which nothing was written since it was flushed last (the first step of a checkpoint).
    """
    if file.suffix == ".db":
        return True
    flushed = False
    for line in before:
        if f"<{file}>" in line:
            if " pwrite64(" in line or " write(" in line:
                flushed = False
            elif (" fsync(" in line or " fdatasync(" in line) and ") = 0" in line:
                flushed = True
    return flushed


def hanging(path: Path) -> str:
    """That it hangs, and where its threads stood if they said it."""
    with contextlib.suppress(OSError):
        if stacks := stacks_of(path).read_text(encoding="utf-8"):
            return f"it hangs:\n{stacks}"
    return "it hangs"


def _look(path: Path, told: Told, outcome: Outcome) -> None:
    """Open the ledger again, unharmed, and hold what is there against everything that was told."""
    acknowledged = told.of("ack")
    if not path.exists():  # making it did not come so far
        outcome.counts["losses"] += len(acknowledged)
        return
    notes = [packet["text"].encode() for packet in told.of("note")] + _served(path)
    again = run(Cycle("again", "", None, reopen), path)
    if again.hung or again.of("refused") or again.of("bug") or not again.ended:
        outcome.bad("stuck", "; ".join(p["text"] for p in again.of("refused") + again.of("bug")) or hanging(path))
        return
    acknowledged += again.of("ack")
    outcome.counts["acknowledged"] += len(acknowledged)
    notes += [packet["text"].encode() for packet in again.of("note")] + _served(path)
    outcome.counts["heads"] += len(set(notes))
    for finding in check_ledger(path).findings:
        outcome.bad("unsound", f"{finding.file}: {finding.what}")
    try:
        _compare(path, acknowledged, set(notes), outcome)
    except PlausibleError as error:
        outcome.bad("unsound", str(error))


def _compare(path: Path, acknowledged: list[dict[str, Any]], notes: set[bytes], outcome: Outcome) -> None:
    with Ledger.open(path, mode="read") as ledger:
        size = ledger.checkpoint().size
        leaves = [leaf for number in range(-(-size // WIDTH)) for leaf in read_bundle(ledger.log, number, size)]
        log_keys = [log.key for log in ledger.policy.logs]
    hashes = [hash_leaf(leaf) for leaf in leaves]
    vault = Vault(path / VAULT_FILE, readonly=True)
    try:
        for packet in acknowledged:
            index = packet["index"]
            if index >= size or hashes[index].hex() != packet["leaf"]:
                outcome.bad("losses", f"entry {index}, acknowledged as {packet['state']}")
        pixels: Counter[bytes] = Counter()
        for index, leaf in enumerate(leaves):
            generation = parse_entry(leaf).generation
            if generation is None:
                continue
            pixels[generation.pixels] += 1
            try:
                vault.record(generation.commitment)
            except PlausibleError as error:
                outcome.bad("losses", f"the record of entry {index}: {error}")
        for digest, count in pixels.items():
            if count > 1:
                outcome.bad("doubles", f"{count} entries about {digest.hex()}")
    finally:
        vault.close()
    for note in notes:
        head, _ = open_checkpoint(note, log_keys)
        if head.size > size or MemoryTree(hashes[: head.size]).root() != head.root:
            outcome.bad("contradictions", f"a signed head of size {head.size} is not of the final history")


def _served(path: Path) -> list[bytes]:
    """The signed heads that lie in `public/` now."""
    files = [
        path / "public/checkpoint",
        path / "public/checkpoint.pending",
        *(path / "public/checkpoints").glob("[0-9]*"),
    ]
    return [file.read_bytes() for file in files if file.is_file()]


# --- the matrix ---


def cases_of(cycle: Cycle, counts: dict[str, Counter[str]], *, every: bool) -> list[Case]:
    """Every call of every thread with every fault it can suffer, in the order of threads, calls, numbers."""
    return [
        Case(cycle.name, thread, call, number, fault)
        for thread in cycle.threads
        for call in CALLS
        for number in range(1, counts[thread][call] + 1)
        for fault in FAULTS
        if every or call in HARMS[fault]
    ]


def matrix(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Run what was asked for; the result as it is printed with --json."""
    began = time.monotonic()
    result: dict[str, Any] = {"format": "plausible.faults/1", "cycles": {}, "remarks": []}
    totals: Counter[str] = Counter()
    for name in options.cycle or CYCLES:
        cycle = CYCLES[name]
        template = None
        if cycle.prepare is not None:
            template = folder / f"{name}.ledger"
            cycle.prepare(template)
        counts = count_calls(cycle, template, folder)
        cases = cases_of(cycle, counts, every=options.every)
        cases = [case for case in cases if case.fault in options.fault]
        cases = [case for case in cases if not options.call or case.call in options.call]
        cases = [case for case in cases if not options.thread or case.thread in options.thread]
        if options.sample and len(cases) > options.sample:
            cases = [cases[i * len(cases) // options.sample] for i in range(options.sample)]
        done: Counter[str] = Counter(cases=len(cases))
        for number, case in enumerate(cases, 1):
            outcome = _run_again(case, template, folder)
            done += outcome.counts
            if outcome.remarks:
                result["remarks"].append({"case": str(case), "harm": outcome.harm, "remarks": outcome.remarks})
                print("\n".join([f"{case}: {outcome.harm}", *(f"    {r}" for r in outcome.remarks)]), file=sys.stderr)
            if options.progress and (number % 50 == 0 or number == len(cases)):
                seconds = time.monotonic() - began
                print(f"{name}: {number} of {len(cases)} cases, {seconds:.0f} s", file=sys.stderr, flush=True)
        calls = {thread: sum(counts[thread].values()) for thread in cycle.threads}
        result["cycles"][name] = {"about": cycle.about, "calls": calls, **_row(done)}
        totals += done
    result["total"] = _row(totals)
    result["seconds"] = round(time.monotonic() - began, 1)
    return result


def _run_again(case: Case, template: Path | None, folder: Path) -> Outcome:
    """`run_case`, tried again where a thread ended before strace was there."""
    for _ in range(3):
        try:
            return run_case(case, template, folder)
        except NoTraceError as error:
            if "No such process" not in str(error):
                raise
    return Outcome()


def _row(counts: Counter[str]) -> dict[str, int]:
    return {name: counts[name] for name in ("cases", "harmed", "acknowledged", "heads", "refused", *FAILURES)}


def main(arguments: list[str] | None = None) -> int:
    """Print the table; 1 for any failure, 4 where nothing can be traced."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cycle", action="append", choices=list(CYCLES), help="this one only; repeatable")
    parser.add_argument("--fault", action="append", choices=list(FAULTS), help="this one only; repeatable")
    parser.add_argument("--call", action="append", choices=CALLS, help="this one only; repeatable")
    parser.add_argument("--thread", action="append", help="main, writer or witness only; repeatable")
    parser.add_argument("--every", action="store_true", help="faults too that a call cannot meet, and locks")
    parser.add_argument("--sample", type=int, help="at most so many cases of each cycle, evenly spread")
    parser.add_argument("--folder", type=Path, help="where to work (default: in memory, if there is /dev/shm)")
    parser.add_argument("--progress", action="store_true", help="say on stderr how far it is")
    parser.add_argument("--json", action="store_true", help="the result as JSON on stdout")
    options = parser.parse_args(arguments)
    options.fault = options.fault or list(FAULTS)
    if shutil.which("strace") is None:
        print("strace is not installed (Debian: apt-get install strace)", file=sys.stderr)
        return 4
    with tempfile.TemporaryDirectory(dir=options.folder or _memory(), prefix="faults-") as folder:
        try:
            result = matrix(options, Path(folder))
        except NoTraceError as error:
            print(error, file=sys.stderr)
            return 4
    if options.json:
        print(json.dumps(result, indent=1))
    else:
        _print_table(result)
    return 1 if any(result["total"][name] for name in FAILURES) else 0


def _memory() -> str | None:
    """A file system in memory: what fails is the call, so a disk would only make it slow."""
    return "/dev/shm" if os.access("/dev/shm", os.W_OK | os.X_OK) else None


def _print_table(result: dict[str, Any]) -> None:
    names = ("cases", "harmed", "acknowledged", "heads", "refused", *FAILURES)
    print(f"{'cycle':10}" + "".join(f"{name:>15}" for name in names))
    for name, row in [*result["cycles"].items(), ("all", result["total"])]:
        print(f"{name:10}" + "".join(f"{row[column]:>15}" for column in names))
    print(f"{result['seconds']} s")


if __name__ == "__main__":
    sys.exit(main())
