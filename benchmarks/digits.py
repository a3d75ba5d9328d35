"""The real digits of benchmarks.data as the auto-encoder experiments use them: some to train on, others held out.

All 10,000 are shuffled once and for all. No training ever sees the held-out ones; probes and negatives are made from
them alone.

    python -m benchmarks.digits        # fetch and print what is there
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np

from benchmarks.data import Pixels, more_mnist

HELD_OUT = 3_000
SPLIT_SEED = 20_211_121


@dataclass(frozen=True, slots=True)
class Digits:
    """uint8 [N, 28, 28] with labels uint8 [N]: `train` to learn from, `held` for probes and negatives only."""

    train: Pixels
    train_labels: Pixels
    held: Pixels
    held_labels: Pixels


@cache
def digits() -> Digits:
    """All different real digits, split; the same everywhere."""
    pictures, labels = more_mnist()
    _, first = np.unique(pictures.reshape(len(pictures), -1), axis=0, return_index=True)
    # sorted by content: the split does not depend on the order of the archive
    order = np.random.default_rng(SPLIT_SEED).permutation(first)
    held, train = order[:HELD_OUT], order[HELD_OUT:]
    return Digits(pictures[train], labels[train], pictures[held], labels[held])


if __name__ == "__main__":
    found = digits()
    print(len(found.train), "digits to train on,", len(found.held), "held out")
