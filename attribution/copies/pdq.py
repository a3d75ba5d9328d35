"""PDQ, the 256-bit perceptual hash: finds a whole picture again after recompression, resizing or mirroring.

A screen and never a proof: what it selects is measured sample by sample afterwards (copies.py). On the 64x64 faces
of the benchmarks a picture's own JPEG 85 is 2-10 bits away and other faces 72 and more, but a 90 % crop of the same
picture 92-120: crops are beyond it.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from .similarity import Pixels

BITS = 256
# A whole-picture copy is looked for up to here; half way between own JPEGs and the nearest other face.
SCREEN_BITS = 40


def pdq_hash(pixels: Pixels) -> NDArray[np.uint8]:
    """The PDQ hash of uint8[H, W, 3] as 32 packed bytes, uint8[32]."""
    import pdqhash

    bits, _quality = pdqhash.compute(np.ascontiguousarray(pixels[..., :3]))
    return np.packbits(np.asarray(bits, dtype=np.uint8))


def pdq_hashes(pictures: Sequence[Pixels]) -> NDArray[np.uint8]:
    """Hashes of many pictures, uint8[N, 32]."""
    return np.stack([pdq_hash(p) for p in pictures]) if pictures else np.zeros((0, BITS // 8), np.uint8)


def hamming(one: NDArray[np.uint8], many: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Distances in bits from `one` uint8[32] to each row of `many` uint8[N, 32]."""
    return np.unpackbits(np.bitwise_xor(many, one), axis=-1).sum(axis=-1, dtype=np.int64)
