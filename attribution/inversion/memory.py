"""Out of memory: halve the batch and go on, instead of losing the probe.

A batch is worked in parts of at most `limit` rows; where the allocator refuses, the limit is halved and the rows that
are still open are tried again. What is computed does not change but for the rounding of other batch sizes. One row that
does not fit is a `SetupError` that says so.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor

from ...schemas.errors import SetupError

REFUSALS = (
    "out of memory",
    "can't allocate memory",
    "not enough memory",
    "could not create a memory",
    "could not create a primitive",
)
"""What torch's allocators and oneDNN say when there is no memory; on the CPU it is a plain RuntimeError."""
BROKEN = "could not create a primitive"
"""A primitive that oneDNN failed to make for want of memory fails for the rest of the process, memory or not."""


def refused(error: BaseException) -> bool:
    """Whether an error means that memory was refused."""
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return True
    return isinstance(error, RuntimeError) and any(text in str(error).lower() for text in REFUSALS)


@dataclass(slots=True)
class Batches:
    """The largest batch that fitted so far; shared by all work on one generator."""

    limit: int | None = None
    halvings: int = 0
    plain: bool = False
    """Whether convolutions go without oneDNN from now on."""

    def __call__(self, work: Callable[[Tensor], tuple[Tensor, ...]], rows: Tensor) -> tuple[Tensor, ...]:
        """`work` on rows [B, ...], whose results [B, ...] are put together again; whole where it fits."""
        done: list[tuple[Tensor, ...]] = []
        at = 0
        while at < len(rows):
            size = min(self.limit or len(rows), len(rows) - at)
            try:
                with self.arithmetic():
                    done.append(work(rows[at : at + size] if size < len(rows) else rows))
            except (RuntimeError, MemoryError) as error:
                if not refused(error):
                    raise
                trouble = error.with_traceback(None)  # frames hold the tensors that did not fit
            else:
                at += size
                continue
            self.halve(size, trouble)
        return done[0] if len(done) == 1 else tuple(torch.cat(parts) for parts in zip(*done, strict=True))

    def arithmetic(self) -> AbstractContextManager[None]:
        """What work is done under."""
        return torch.backends.mkldnn.flags(enabled=False) if self.plain else nullcontext()

    def halve(self, size: int, error: BaseException) -> None:
        """Allow half of a batch that was refused; `SetupError` below one row."""
        if BROKEN in str(error) and not self.plain:
            self.plain = True
            return
        if size <= 1:
            raise SetupError("out of memory: not even one picture of this generator can be searched for") from error
        self.limit = size // 2
        self.halvings += 1
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
