"""Pictures that the face generator did not make, the nearest ones first: what its evidence must not call its own.

noise clones   every weight multiplied by 1 + eps N(0, 1), a clone of its own for every picture
clone, near    fine-tuned to recoloured faces, 240 and 60 steps (examples/faces/clone.py)
sibling        the same architecture trained from scratch on faces that the generator made (training/sibling.py)
emoji, digits  real pictures (benchmarks/data.py), those that the calibration did not use
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from plausible.attribution.calibration.document import Negative
from plausible.attribution.calibration.measure import own_picture
from plausible.attribution.generators import Generator
from plausible.attribution.stages.blank import without_evidence
from torch import nn

from benchmarks import data
from benchmarks.attribution.sources import CLONE_SEED, clone_faces
from benchmarks.attribution.training import sibling
from examples.faces.clone import NEAR_STEPS, STEPS, clone_generator
from examples.faces.fetch import CACHE, face_generator

Pixels = NDArray[np.uint8]
NOISE = (0.001, 0.003, 0.01, 0.03)
COUNTS = {"sibling": 60, "clone": 60, "near clone": 60, "emoji": 50, "digits": 50}
EACH_NOISE = 60
CONFIRMED_SEED = 1_201
"""Latents of the relatives that confirmations are calibrated against."""
FIRST_SEED = 20_001
"""Latents of relatives' pictures: apart from those of the calibration, faces.py and classes.py."""


@dataclass(frozen=True, slots=True)
class Other:
    """Another's picture, uint8 [64, 64, 3]; `distance`: relative change of all weights, None for strangers."""

    kind: str
    name: str
    pixels: Pixels
    distance: float | None


def noise_name(eps: float) -> str:
    """ "noise 0.3 %"."""
    return f"noise {100 * eps:g} %"


def noisy(original: Generator, eps: float, seed: int) -> nn.Module:
    """A copy whose weights were all multiplied by 1 + eps N(0, 1); running statistics stay."""
    module = copy.deepcopy(original.module)
    rng = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in module.parameters():
            weight.mul_(1 + eps * torch.randn(weight.shape, generator=rng))
    return module


def distance(original: Generator, module: nn.Module) -> float:
    """Norm of all weights' change over the norm of all weights."""
    pairs = list(zip(original.module.parameters(), module.parameters(), strict=True))
    change = sum(float((a - b).double().square().sum()) for a, b in pairs)
    return float(np.sqrt(change / sum(float(a.double().square().sum()) for a, _ in pairs)))


@torch.no_grad()
def of_module(original: Generator, module: nn.Module, seed: int) -> Pixels:
    """The picture that a relative makes of the latent that `seed` draws, by the original's rounding."""
    z = original.latent.draw(1, torch.Generator().manual_seed(seed))
    return original.output.to_uint8(module(z))[0].numpy()


def others(share: float = 1.0, *, seed: int = 1) -> Iterator[Other]:
    """All of them, or the first `share` of each kind; kinds in turn, so that a part of the list has all of them."""
    kinds = [_noise(eps, share, seed) for eps in NOISE]
    kinds += [_tuned("near clone", NEAR_STEPS, share), _tuned("clone", STEPS, share)]
    if sibling.trained():
        kinds.append(_sibling(share))
    kinds += [_strangers("emoji", share), _strangers("digits", share)]
    while kinds:
        for kind in list(kinds):
            one = next(kind, None)
            if one is None:
                kinds.remove(kind)
            else:
                yield one


def confirmation_negatives(near: int = 20, far: int = 4, noise: int = 6) -> list[Negative]:
    """What the statistics of confirmations are calibrated against: relatives alone, since strangers lie far off.

    Faces of the nearer and of the farther tuned clone, and of clones with 1 % weight noise.
    """
    found: list[Negative] = []
    for kind, steps, count in (("near clone", NEAR_STEPS, near), ("clone", STEPS, far)):
        faces = clone_faces(range(CONFIRMED_SEED, CONFIRMED_SEED + count), steps)
        found += [replace(face, kind=kind) for face in faces]
    original = face_generator()
    for seed in range(CONFIRMED_SEED, CONFIRMED_SEED + noise):
        pixels = of_module(original, noisy(original, 0.01, seed), seed)
        found.append(Negative(noise_name(0.01), str(seed), pixels, derivative=True))
    return found


def _count(whole: int, share: float) -> int:
    return max(1, round(whole * share))


def _noise(eps: float, share: float, seed: int) -> Iterator[Other]:
    original = face_generator()
    for number in range(_count(EACH_NOISE, share)):
        module = noisy(original, eps, seed * 1_000_000 + number)
        pixels = of_module(original, module, FIRST_SEED + number)
        yield Other(noise_name(eps), str(number), pixels, distance(original, module))


def _tuned(kind: str, steps: int, share: float) -> Iterator[Other]:
    clone = clone_generator(CACHE / f"clone-{CLONE_SEED}-{steps}", CLONE_SEED, steps=steps)
    apart = distance(face_generator(), clone.module)
    for number in range(_count(COUNTS[kind], share)):
        yield Other(kind, str(number), own_picture(clone, FIRST_SEED + 1_000 + number), apart)


def _sibling(share: float) -> Iterator[Other]:
    generator = sibling.generator()
    apart = distance(face_generator(), generator.module)
    for number in range(_count(COUNTS["sibling"], share)):
        yield Other("sibling", str(number), own_picture(generator, FIRST_SEED + 2_000 + number), apart)


def _strangers(kind: str, share: float) -> Iterator[Other]:
    pictures = (data.emoji() if kind == "emoji" else data.digits())[0::2]
    kept = [(name, pixels) for name, pixels in pictures if without_evidence(pixels) is None]
    for name, pixels in kept[: _count(COUNTS[kind], share)]:
        yield Other(kind, name, pixels, None)
