"""What the crash matrix runs: ledgers prepared in folders, and one cycle of a writer over each, told as it happens.

A cycle talks over a socket of packets (no file-system call, so nothing of it is counted or harmed), each a JSON object.
`ack` is an acknowledgement the moment the caller has it, `note` a signed head before it leaves the process
(written to `public/` or sent to a witness), `refused` an error of the project's own, `bug` any other.
"""

from __future__ import annotations

import concurrent.futures.thread
import contextlib
import ctypes
import faulthandler
import json
import os
import signal
import socket
import sys
import threading
import time
import traceback
from collections.abc import Callable, Generator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from plausible.ledger import Ledger
from plausible.ledger.entries.digests import model_manifest
from plausible.ledger.merkle.public import PublicFolder
from plausible.ledger.storage import disk
from plausible.ledger.storage.state import State
from plausible.ledger.vault.vault import Vault
from plausible.ledger.witness import Witness
from plausible.ledger.writing.receipt import Progress, Receipt
from plausible.ledger.writing.sequencer import Sequencer
from plausible.ledger.writing.writer import Writer
from plausible.schemas.errors import PlausibleError

AUTHOR = "bench.example/studio"
WITNESSES = ("one.example/w", "two.example/w", "three.example/w")
WAIT = 10.0
"""Seconds a cycle waits for an acknowledgement before it counts the wait as refused."""
_PR_SET_PTRACER = 0x59616D61


def picture(number: int) -> NDArray[np.uint8]:
    """uint8 [16, 16, 3], another one for every number below 2^24."""
    pixels = np.zeros((16, 16, 3), dtype=np.uint8)
    pixels[0, 0] = [number >> 16 & 255, number >> 8 & 255, number & 255]
    return pixels


# --- telling ---


class Teller:
    """The cycle's end of the socket; any thread tells."""

    def __init__(self, channel: socket.socket) -> None:
        self._channel = channel
        self._lock = threading.Lock()

    def tell(self, what: str, **values: Any) -> None:
        """One packet."""
        with self._lock:
            self._channel.send(json.dumps({"what": what, **values}).encode())

    def wait_for_go(self, thread: str) -> None:
        """Name this thread and wait until whoever harms it is ready."""
        self.tell("thread", thread=thread, id=threading.get_native_id())
        self._channel.recv(16)

    @contextlib.contextmanager
    def told(self, doing: str) -> Generator[None]:
        """Errors of the block are told and end here."""
        try:
            yield
        except PlausibleError as error:
            self.tell("refused", doing=doing, error=type(error).__name__, text=str(error)[:300])
        except Exception:  # noqa: BLE001  (what escapes is what is looked for)
            self.tell("bug", doing=doing, text=traceback.format_exc()[-1500:])

    def opened(self, doing: str, opening: Callable[[], Ledger]) -> Ledger | None:
        """The ledger, or None if that was refused."""
        with self.told(doing):
            return opening()
        return None

    def acknowledged(self, receipt: Receipt) -> None:
        """What the caller may rely on from now on."""
        assert receipt.leaf is not None
        self.tell("ack", index=receipt.index, leaf=receipt.leaf.hex(), state=receipt.state)


def _overhear(teller: Teller) -> None:
    """Tell every signed head before it is written to `public/` or sent to a witness, and hold each writer's thread."""

    def wrap(owner: type, name: str, note_at: int) -> None:
        original: Callable[..., Any] = getattr(owner, name)

        def heard(*args: Any, **kwargs: Any) -> Any:
            teller.tell("note", at=time.time(), text=args[note_at].decode(), where=name)
            return original(*args, **kwargs)

        setattr(owner, name, heard)

    wrap(PublicFolder, "write_pending", 1)
    wrap(PublicFolder, "write_checkpoint", 2)
    wrap(Witness, "add_checkpoint", 3)
    _watch(teller)
    run: Callable[[Writer], None] = getattr(Writer, "_run")  # noqa: B009  (private to the product)

    def held(self: Writer) -> None:
        teller.wait_for_go("writer")
        run(self)

    setattr(Writer, "_run", held)  # noqa: B010
    work: Callable[..., None] = getattr(concurrent.futures.thread, "_worker")  # noqa: B009  (the threads of a pool)

    def held_work(*args: Any) -> None:
        teller.wait_for_go("witness")
        work(*args)

    setattr(concurrent.futures.thread, "_worker", held_work)  # noqa: B010


def _watch(teller: Teller) -> None:
    """Tell, with the clock, what the writer promises: whatever it promises after a failed flush is too much."""
    accepted, advance = Receipt.accepted_as, Progress.advance

    def accepted_as(self: Receipt, index: int, leaf: bytes) -> None:
        teller.tell("promised", at=time.time(), text=f"entry {index} accepted")
        accepted(self, index, leaf)

    def advanced(self: Progress, sequenced: int, witnessed: int, trouble: str | None) -> None:
        if (sequenced, witnessed) != (self.sequenced, self.witnessed):
            teller.tell("promised", at=time.time(), text=f"{sequenced} sequenced, {witnessed} witnessed")
        advance(self, sequenced, witnessed, trouble)

    setattr(Receipt, "accepted_as", accepted_as)  # noqa: B010
    setattr(Progress, "advance", advanced)  # noqa: B010


# --- cycles ---


def publish(path: Path, teller: Teller, **options: Any) -> None:
    """Open, append one and see it accepted, two and see them witnessed, ask the same process for one more, close."""
    ledger = teller.opened("open", lambda: Ledger.open(path, **options))
    if ledger is None:
        return
    with teller.told("append 0"):
        teller.acknowledged(ledger.append(image=picture(1000), model="m").wait("accepted", WAIT))
    receipts: list[Receipt] = []
    for number in (1, 2):
        with teller.told(f"append {number}"):
            receipts.append(ledger.append(image=picture(1000 + number), model="m"))
    for receipt in receipts:
        with teller.told("witness"):
            teller.acknowledged(receipt.wait("witnessed", WAIT))
    # whoever goes on after an error asks again: what is acknowledged now must be as durable
    with teller.told("append 3"):
        teller.acknowledged(ledger.append(image=picture(1003), model="m").wait("accepted", WAIT))
    with teller.told("close"):
        ledger.close()


def spool(path: Path, teller: Teller) -> None:
    """The same with a journal for what the databases do not take."""
    import warnings

    warnings.simplefilter("ignore", RuntimeWarning)
    publish(path, teller, on_error="spool")


def repair(path: Path, teller: Teller) -> None:
    """Open what a kill left behind, have it witnessed, append one, close."""
    reopen(path, teller, 2000)


def reopen(path: Path, teller: Teller, number: int = 3000) -> None:
    """The same with a picture of another number."""
    ledger = teller.opened("open", lambda: Ledger.open(path))
    if ledger is None:
        return
    with teller.told("flush"):
        ledger.flush(timeout=WAIT)
    with teller.told("append"):
        if not ledger.models():  # a killed `init` may not have come so far
            ledger.register_model("m", manifest=manifest())
        teller.acknowledged(ledger.append(image=picture(number), model="m").wait("witnessed", WAIT))
    with teller.told("close"):
        ledger.close()


def make(path: Path, teller: Teller) -> None:
    """Make a ledger directory and log a model in it."""
    ledger = teller.opened("init", lambda: Ledger.init(path, author=AUTHOR, witnesses=WITNESSES))
    if ledger is None:
        return
    with teller.told("register"):
        teller.acknowledged(ledger.register_model("m", manifest=manifest()))
    with teller.told("close"):
        ledger.close()


# --- what they start from ---


def manifest() -> dict[str, Any]:
    """Of a model that is only named."""
    sampling = {"output_range": [-1, 1], "rounding": "mul127.5_add128_trunc"}
    return model_manifest("bench", {"latent": 4}, sampling, [("w", "float32", [1], bytes(32))])


def prepare(path: Path, entries: int, *, witnesses: tuple[str, ...], sync: str = "lazy") -> None:
    """A closed ledger of `entries` entries, one of them a model's."""
    with Ledger.init(path, author=AUTHOR, witnesses=witnesses) as ledger:
        ledger.register_model("m", manifest=manifest())
        for number in range(entries - 1):
            ledger.append(image=picture(number), model="m")
    if sync != "lazy":
        config = path / "log.toml"
        config.write_text(config.read_text().replace('sync = "lazy"', f'sync = "{sync}"'))


def prepare_killed(path: Path) -> None:
    """A ledger whose writer was killed: heads above the flushed tiles, some unwitnessed, and submissions that wait."""
    prepare(path, 3, witnesses=WITNESSES)
    child = os.fork()
    if child == 0:
        try:
            _run_and_die(path)
        finally:
            os._exit(1)
    _, status = os.waitpid(child, 0)
    if not os.WIFSIGNALED(status):
        raise SystemExit("the ledger to be repaired could not be prepared")


def _run_and_die(path: Path) -> None:
    def nothing(*_: Any, **__: Any) -> None: ...

    setattr(PublicFolder, "sync", nothing)  # noqa: B010
    setattr(State, "set_synced", nothing)  # noqa: B010
    ledger = Ledger.open(path)
    for number in range(3):
        ledger.append(image=picture(500 + number), model="m").wait("witnessed", WAIT)
    setattr(Sequencer, "witness", lambda *_: False)  # noqa: B010
    ledger.append(image=picture(503), model="m").wait("sequenced", WAIT)
    add = Vault.add

    def add_and_die(*args: Any) -> None:
        add(*args)
        os.kill(os.getpid(), signal.SIGKILL)

    setattr(Vault, "add", add_and_die)  # noqa: B010
    ledger.append(image=picture(504), model="m").wait("accepted", WAIT)


@dataclass(frozen=True, slots=True)
class Cycle:
    """A row of the matrix: what it is, how its folder is prepared, what runs over it, which threads are harmed."""

    name: str
    about: str
    prepare: Callable[[Path], None] | None
    run: Callable[[Path, Teller], None]
    threads: tuple[str, ...] = ("main", "writer")


_ALL = ("main", "writer", "witness")
"""`witness`: the first of the threads in which witnesses are asked."""


def _witnessed(entries: int, sync: str = "lazy") -> Callable[[Path], None]:
    return lambda path: prepare(path, entries, witnesses=WITNESSES, sync=sync)


CYCLES = {
    cycle.name: cycle
    for cycle in (
        Cycle("witnessed", "open, append, publish; 2 of 3 witnesses cosign", _witnessed(3), publish, _ALL),
        Cycle("repair", "open what a kill left behind, publish it", prepare_killed, repair, _ALL),
        Cycle("init", "make a ledger directory, register a model", None, make),
        Cycle("alone", "append and publish with quorum none", lambda path: prepare(path, 3, witnesses=()), publish),
        Cycle("strict", 'append and publish with sync = "strict"', _witnessed(3, "strict"), publish, ("writer",)),
        Cycle("spool", 'append and publish with on_error="spool"', _witnessed(3), spool),
        Cycle("edge", "append and publish across the end of a tile", _witnessed(254), publish, ("writer",)),
    )
}


STACKS_AFTER = 40
"""Seconds after which a process that still runs writes down where each of its threads stands."""


def stacks_of(path: Path) -> Path:
    """The file for that, beside the ledger."""
    return path.with_name(f"{path.name}.stacks")


def run_forked(cycle: Cycle, path: Path, channel: socket.socket) -> int:
    """Fork a process that runs the cycle and tells over `channel`; returns its id. Nothing may be open here."""
    sys.stdout.flush()
    sys.stderr.flush()
    child = os.fork()
    if child:
        return child
    try:
        teller = Teller(channel)
        # a tracer that is no ancestor may attach, where the system asks for that
        ctypes.CDLL(None).prctl(_PR_SET_PTRACER, ctypes.c_ulong(-1 & (2**64 - 1)), 0, 0, 0)
        devnull = os.open(os.devnull, os.O_WRONLY)
        os.dup2(devnull, 2)
        with contextlib.suppress(OSError):  # where everybody stood, should it hang
            faulthandler.dump_traceback_later(STACKS_AFTER, file=stacks_of(path).open("w", encoding="utf-8"))
        disk.FLUSHED_AT_ONCE = 1  # strace counts and harms the calls of one thread
        _overhear(teller)
        teller.wait_for_go("main")
        cycle.run(path, teller)
        teller.tell("end")
    finally:
        os._exit(0)
