"""What every inversion of one picture begins with: a checked probe, a time guard, its arithmetic, its random starts."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Sequence
from collections.abc import Generator as Yields
from contextlib import contextmanager

import numpy as np
import torch
from numpy.typing import NDArray

from ...schemas.errors import UsageError
from ..generators.protocol import Generator
from .budget import Budget


def checked(probe: NDArray[np.uint8], generators: Sequence[Generator]) -> NDArray[np.uint8]:
    """A copy of the probe, since read-only arrays cannot become tensors.

    `UsageError` if it is not uint8 [H, W, C] of the size that every generator makes: the caller resizes, and says how.
    """
    pixels = np.array(probe, order="C")
    if pixels.dtype != np.uint8 or pixels.ndim != 3:
        raise UsageError("a probe is uint8 [height, width, channels]")
    for generator in generators:
        size = (generator.output.height, generator.output.width, generator.output.channels)
        if pixels.shape != size:
            raise UsageError(f"the probe is {pixels.shape}, generator {generator.name!r} makes {size}: resize it first")
    return pixels


def time_guard(budget: Budget) -> Callable[[], bool]:
    """Whether the budget's seconds, counted from now, are over; never if it has none."""
    began = time.monotonic()
    return lambda: budget.seconds is not None and time.monotonic() - began > budget.seconds


@contextmanager
def settings(threads: int | None) -> Yields[None, None, None]:
    """Threads and arithmetic of an inversion, put back afterwards."""
    before, matmul, convolution = (
        torch.get_num_threads(), torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    )  # fmt: skip
    if threads is not None:
        torch.set_num_threads(threads)
    # TF32 keeps ten bits: its error alone is above the rounding floor
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    try:
        yield
    finally:
        torch.set_num_threads(before)
        torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = matmul, convolution


def start_generator(seed: int, digest: str) -> torch.Generator:
    """The source of random starts for one probe and generator: independent of which other candidates there are."""
    material = hashlib.sha256(f"plausible.starts/1\n{seed}\n{digest}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(material[:8], "big") >> 1)
