"""The whole signed path as a bench subject: `Ledger.append` of 64x64 pictures with a latent of 100 values, quorum none.

A batch is so many calls and the wait until the last of them is sequenced: pictures hashed, records sealed and committed
to, vault.db, state.db with the signed entries, tiles and bundles, the signed head.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from plausible.ledger import Ledger
from plausible.ledger.entries.digests import model_manifest
from plausible.ledger.log import Log
from plausible.ledger.merkle.public import PublicFolder
from plausible.ledger.recorder import core
from plausible.ledger.recorder.core import Recorder
from plausible.ledger.storage.state import Acceptance
from plausible.ledger.storage.store import LogStore
from plausible.ledger.vault.vault import Vault
from plausible.ledger.writing import sequencer as sequencer_module
from plausible.ledger.writing.writer import Writer

from benchmarks.ledger.speed.protocol import pin, serve, timed

PARTS: tuple[tuple[str, object, str], ...] = (
    ("picture hashed, draw, queue (caller)", Recorder, "append"),
    ("record made (documents)", core.Captured, "record"),
    ("commitment over ten salted fields", core, "commit_encoded"),
    ("vault.db commit", Vault, "add"),
    ("vault.db read back", Vault, "after"),
    ("statement made", sequencer_module, "build_statement"),
    ("entry signed (DSSE, Ed25519)", sequencer_module, "sign_entry"),
    ("state.db rows", Acceptance, "finish"),
    ("state.db commits and flushes", sequencer_module.Sequencer, "accept"),
    ("tiles and bundles", PublicFolder, "write_tiles"),
    ("head signed, tree", Log, "sequence"),
    ("head durable in state.db", LogStore, "sign_head"),
    ("checkpoint served", sequencer_module.Sequencer, "witness"),
    ("files flushed", Log, "sync"),
    ("rests (other threads' turns)", Writer, "_breathe"),
)


class Signed:
    """One ledger, its pictures made before the clock runs."""

    def __init__(self, folder: Path) -> None:
        self._rng = np.random.default_rng(1)
        self.ledger = Ledger.init(folder / "signed.ledger", author="bench.example/studio")
        sampling = {"output_range": [-1, 1], "rounding": "mul127.5_add128_trunc"}
        manifest = model_manifest("bench", {"latent": 100}, sampling, [("w", "float32", [1], bytes(32))])
        self.ledger.register_model("m", manifest=manifest)
        self.ledger.flush()

    def append(self, batch: int, count: int) -> dict[str, Any]:
        """`count` batches: wall and CPU seconds of each."""
        seconds = [timed(self._batch(batch)) for _ in range(count)]
        return {"wall": [wall for wall, _ in seconds], "cpu": [cpu for _, cpu in seconds]}

    def _batch(self, batch: int) -> Callable[[], None]:
        images = self._rng.integers(0, 256, (batch, 64, 64, 3), dtype=np.uint8)
        latents = self._rng.standard_normal((batch, 100)).astype(np.float32)

        def run() -> None:
            receipts = [
                self.ledger.append(image=image, model="m", latent=latent, prior="normal")
                for image, latent in zip(images, latents, strict=True)
            ]
            receipts[-1].wait("sequenced")

        return run

    def profile(self, batch: int, count: int) -> dict[str, Any]:
        """Wall seconds an entry spends in each part, without the parts inside it; the rest is `other`."""
        spent: dict[str, float] = dict.fromkeys([name for name, _, _ in PARTS], 0.0)
        stacks: dict[int, list[float]] = {}
        undo: list[tuple[object, str, Any]] = []
        for name, owner, attribute in PARTS:
            plain = getattr(owner, attribute)
            undo.append((owner, attribute, plain))
            setattr(owner, attribute, _clocked(plain, name, spent, stacks))
        try:
            wall = sum(self.append(batch, count)["wall"])
        finally:
            for owner, attribute, plain in undo:
                setattr(owner, attribute, plain)
        entries = batch * count
        parts = {name: seconds / entries for name, seconds in spent.items()}
        parts["other (threads' hand-over, queue, receipts)"] = wall / entries - sum(parts.values())
        return {"parts": parts, "wall": wall / entries}

    def entry_bytes(self) -> dict[str, Any]:
        """Bytes of a generation's entry."""
        self.ledger.flush()
        return {"bytes": len(self.ledger.entry(1))}

    def close(self) -> dict[str, Any]:
        """Close it."""
        self.ledger.close()
        return {}


def _clocked(plain: Any, name: str, spent: dict[str, float], stacks: dict[int, list[float]]) -> Any:
    """`plain`, its time counted to `name` without what other clocked calls inside it take."""
    import threading

    def call(*arguments: Any, **named: Any) -> Any:
        stack = stacks.setdefault(threading.get_ident(), [])
        stack.append(0.0)
        began = time.thread_time() if name.endswith("(caller)") else time.perf_counter()
        try:
            return plain(*arguments, **named)
        finally:
            now = time.thread_time() if name.endswith("(caller)") else time.perf_counter()
            inner = stack.pop()
            spent[name] += now - began - inner
            if stack:
                stack[-1] += now - began

    return call


def main() -> None:
    """Serve one ledger."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--bytes", type=int, help="ignored: entries are as long as they are")
    parser.add_argument("--core", type=int)
    options = parser.parse_args()
    pin(options.core)
    serve(Signed(options.folder))


if __name__ == "__main__":
    main()
