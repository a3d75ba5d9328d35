"""What the attribution benchmarks and the face calibration invert, and from which seeds; no picture serves twice.

own faces       seeds 1..50 (faces.py), 51..100 (classes.py); calibrations draw theirs from 1,000,000 on
clone's faces   seeds 1..20 (faces.py; of two clones), 1001.. (calibration; of the nearer clone), 1201.. (confirmations)
manipulated     seeds 41001.. of the original, 42001.. of the tuned clone, 43001.. of the shaken
experiments     own faces from 10,000 on (faces), relatives' from 20,001 (others), from 30,000 (R1, R2)
emoji, digits   the even ones of benchmarks/data.py (faces.py), the odd ones (calibration)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from plausible.attribution.calibration.classes import RELAXED, STRICT
from plausible.attribution.calibration.document import Negative
from plausible.attribution.calibration.measure import Job, own_picture
from plausible.attribution.stages.blank import without_evidence

from benchmarks import data
from examples.faces.clone import NEAR_STEPS, STEPS, clone_generator
from examples.faces.fetch import CACHE

CLONE_SEED = 1
MANIPULATED_SEEDS: Mapping[str, range] = {
    "faces": range(41_001, 42_000), "tuned": range(42_001, 43_000), "shaken": range(43_001, 44_000),
}  # fmt: skip
"""Of the relatives' pictures (closed_set.py) that R5 manipulates."""


def clone_faces(seeds: Sequence[int], steps: int = STEPS) -> list[Negative]:
    """Pictures of the clone fine-tuned for so many steps (examples/faces/clone.py)."""
    clone = clone_generator(CACHE / f"clone-{CLONE_SEED}-{steps}", CLONE_SEED, steps=steps)
    return [Negative("clone", str(seed), own_picture(clone, seed), derivative=True) for seed in seeds]


def strangers(count: int, odd: bool) -> list[Negative]:
    """`count` emoji and as many digits; blank ones are left out (stages/blank.py): no verdict rests on them."""
    found: list[Negative] = []
    for kind, pictures in (("emoji", data.emoji()), ("digits", data.digits())):
        told = [(name, pixels) for name, pixels in pictures[int(odd) :: 2] if without_evidence(pixels) is None]
        found += [Negative(kind, name, pixels) for name, pixels in told[:count]]
    return found


def _alternating(count: int) -> list[Negative]:
    both = strangers(-(-count // 2), odd=True)
    half = len(both) // 2
    return [n for pair in zip(both[:half], both[half:], strict=True) for n in pair][:count]


def benchmark_negatives() -> list[Job]:
    """The 50 negatives of faces.py: 20 clone's faces, 15 emoji, 15 digits."""
    negatives = [*clone_faces(range(1, 21)), *strangers(15, odd=False)]
    return [Job("unprocessed", n.kind, n.name, 500_000 + i, n.pixels) for i, n in enumerate(negatives)]


def near_clone_faces() -> list[Job]:
    """20 faces of a clone that was tuned for a quarter of the steps: how the evidence falls with the distance."""
    near = clone_faces(range(1, 21), NEAR_STEPS)
    return [Job("unprocessed", "near clone", n.name, 510_000 + i, n.pixels) for i, n in enumerate(near)]


def calibration_negatives(clones: int = 15, others: int = 8, processed: int = 15) -> Mapping[str, list[Negative]]:
    """Unprocessed: clone's faces, `others` emoji and digits each. Other classes: `processed` of those two together, and
    two clone's faces, which are listed only."""
    found: dict[str, list[Negative]] = {}
    for name in RELAXED:
        if name in STRICT:
            found[name] = [*clone_faces(range(1001, 1001 + clones), NEAR_STEPS), *strangers(others, odd=True)]
        else:
            found[name] = [*clone_faces(range(1101, 1103), NEAR_STEPS), *_alternating(processed)]
    return found
