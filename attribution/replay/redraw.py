"""Latents that a recorded call drew itself, drawn again from the state in which its random number generator stood.

Many a script has `z = torch.randn(n, 100)` inside the function that is recorded. The record then holds no latent, but
the generator's state before the call. If that was the first thing drawn, in one go for the whole batch, the same state
gives the same numbers again; a replay shows whether it was so. Nothing here runs code of the record's author.

The state's algorithms are named by the recorder (ledger/recorder/capture.py); a draw of torch's CPU generator gives the
same numbers on every platform, numpy promises the same for `RandomState` and, within a version, for its generators.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray

from ...ledger.entries.record import OpenedRecord
from ...ledger.recorder.capture import restore
from ...schemas.record import RngSource
from ...schemas.text import unb64
from ..generators.protocol import LatentSpec

Latents = NDArray[np.float32]


def redraw(opened: OpenedRecord, latent: LatentSpec, batch: int) -> Iterator[Latents]:
    """float32 [batch, d] for each way in which the call may have drawn its latents, the likeliest first.

    None where no state was recorded or disclosed, or for a prior that is neither `normal` nor `sphere`. `EvidenceError`
    if a state is none of its algorithm.
    """
    if latent.prior not in ("normal", "sphere"):
        return
    for source in opened.rng.sources if opened.rng is not None else ():
        if source.state is None:
            continue
        for z in _draws(source, unb64(source.state), (batch, latent.dim)):
            scale = np.sqrt(latent.dim) / np.linalg.norm(z, axis=1, keepdims=True) if latent.prior == "sphere" else 1.0
            yield np.ascontiguousarray(z * scale, np.float32)


def _draws(source: RngSource, state: bytes, shape: tuple[int, int]) -> Iterator[Latents]:
    if source.algorithm == "torch.cpu":
        generator = restore(source.algorithm, state, torch.Generator())
        yield torch.randn(shape, generator=generator).numpy()
    elif source.algorithm.startswith("numpy.RandomState/"):
        generator = restore(source.algorithm, state, np.random.RandomState(0))
        yield generator.standard_normal(shape).astype(np.float32)
    elif source.algorithm.startswith("numpy.Generator/"):
        yield restore(source.algorithm, state).standard_normal(shape).astype(np.float32)
        yield restore(source.algorithm, state).standard_normal(shape, dtype=np.float32)
