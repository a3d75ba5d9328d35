"""Committed latents made ahead of the calls that use them.

Seeding numpy's generator costs a caller whose caches a forward pass has just emptied more than the rest of recording.
Nothing about a committed latent depends on the call: its draw is reserved, its secret fresh, its model fixed. So the
writer's thread keeps some ready. Those that are never used are gaps in the draws, which are allowed.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ...schemas.errors import PlausibleError
from ..seeds.committed import derive, latent
from ..seeds.epochs import Seed

if TYPE_CHECKING:
    from .core import KnownModel, Recorder

MAX_READY = 64
MAX_READY_OF_EPOCH = 8
"""Of an epoch fewer: what is ready when the program ends is a gap in it."""
MAX_READY_BYTES = 1 << 20
"""Larger latents are made when they are needed: their generators are slow anyway."""


@dataclass(frozen=True, slots=True)
class DrawnLatent:
    """A latent, float32 without the batch axis, with the draw and the secret it follows from."""

    seed: Seed
    z: NDArray[np.float32] = field(repr=False)

    @property
    def draw(self) -> int:
        """The draw it is of."""
        return self.seed.draw


class LatentPool:
    """Committed latents of one model, shape and prior; calls from any thread, each latent given out once."""

    def __init__(
        self, recorder: Recorder, model: KnownModel, shape: tuple[int, ...], prior: str, *, epoch: bool = False
    ) -> None:
        """With `epoch` the seeds are those that the ledger's open epoch fixed."""
        self._epoch = epoch
        self._recorder = recorder
        self._model = model
        self._shape = shape
        self._prior = prior
        self._ready: deque[DrawnLatent] = deque()
        most = MAX_READY_OF_EPOCH if epoch else MAX_READY
        self._capacity = min(most, MAX_READY_BYTES // (4 * max(1, int(np.prod(shape)))))
        self._pid = os.getpid()
        self._chain = recorder.ledger.chain
        self._asked = False

    def take(self, count: int) -> list[DrawnLatent]:
        """`count` latents: ready ones first, the rest made now. Raises `StorageFull` if no draws can be reserved."""
        chain = self._recorder.ledger.chain
        if self._pid != os.getpid() or self._chain != chain:
            # what was ready before a fork is the parent's; before a rotation of the author's key, the old chain's
            self._ready.clear()
            self._pid, self._chain = os.getpid(), chain
            self._asked = False
        taken: list[DrawnLatent] = []
        with contextlib.suppress(IndexError):
            while len(taken) < count:
                taken.append(self._ready.popleft())
        if len(taken) < count:
            taken += [self._make(seed) for seed in self._recorder.seeds(count - len(taken), epoch=self._epoch)]
        if not self._asked and len(self._ready) < self._capacity // 2:
            self._asked = True
            self._recorder.ledger.later(self.refill)
        return taken

    def refill(self) -> None:
        """Make as many ready as fit; runs in the writer's thread."""
        pid = os.getpid()
        try:
            missing = self._capacity - len(self._ready)
            for seed in self._recorder.seeds(missing, epoch=self._epoch) if missing > 0 else ():
                made = self._make(seed)
                if pid == self._pid:
                    self._ready.append(made)
                # as in writer.py: let the callers have the interpreter
                time.sleep(0.00005)
        except PlausibleError:
            pass  # a full disk is reported where it matters: by the call that needs a draw
        finally:
            self._asked = False

    def _make(self, seed: Seed) -> DrawnLatent:
        author, _ = self._recorder.ledger.chain_of(seed.draw)
        h = derive(seed.secret, self._model.digest, author, seed.draw)
        return DrawnLatent(seed, latent(h, self._shape, self._prior))
