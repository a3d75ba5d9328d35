"""A mirror image loses nothing: a latent that gives every sample of the mirrored picture certifies like an exact one.

No limit and no calibration are needed for it, as for the very pixels: the few numbers of a latent cannot meet so many
samples by chance, in either of two orientations. Other changes of the relaxed scope lose samples.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray

from ..generators.protocol import Generator
from ..inversion import Inversion, RelaxedInversion, invert
from ..inversion.budget import Budget

NEAR = 20.0
"""Floors up to which the inversion up to a change must have come for the certificate to be tried: a mirrored own
picture comes to 1 or 2."""


def exact_mirrored(
    probe: NDArray[np.uint8],
    generator: Generator,
    relaxed: RelaxedInversion | None,
    budget: Budget,
    *,
    seed: int,
    threads: int | None = None,
    device: str = "cpu",
) -> Inversion | None:
    """The plain inversion of the mirrored probe [H, W, C] if it gives every sample, else None.

    It starts at the latent that the inversion up to a change found. Its reconstruction lies as the probe does.
    """
    if relaxed is None or not relaxed.change.mirrored or relaxed.floors > NEAR:
        return None
    first = torch.from_numpy(relaxed.z)[None].float()
    found = invert(
        np.ascontiguousarray(probe[:, ::-1]), [generator], budget, seed=seed, threads=threads, device=device,
        starts=[first],
    )[0]  # fmt: skip
    if found.mismatches:
        return None
    return replace(found, reconstruction=np.ascontiguousarray(found.reconstruction[:, ::-1]))
