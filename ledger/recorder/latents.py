"""Which argument of a call is the latent, as its caller said or as its name and the manifest show."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ...schemas.errors import UsageError
from ..seeds.committed import PRIORS
from .core import KnownModel, Recorder
from .pool import LatentPool
from .target import signature_of

LATENT_NAMES = ("z", "latent", "latents")
"""Arguments that are recorded as the latent, if they have its shape, without being named by the caller of `wrap`."""


@dataclass(frozen=True, slots=True)
class LatentInput:
    """Which argument of the call is the latent, and how to draw it where the caller leaves it out.

    `shape` without the batch axis; `prior` "normal" or "sphere" (others cannot be drawn from committed seeds: the
    caller must supply them, and they are recorded as captured). How many images: `batch`, a number or the name of an
    integer argument; or an integer passed in the latent's own place. `draw` False: never drawn here; what the caller
    passes is the latent if it has the latent's shape.
    """

    name: str
    shape: tuple[int, ...] | None = None
    prior: str | None = None
    batch: int | str = 1
    draw: bool = True


def latent_input(
    given: str | tuple[int, ...] | LatentInput | None, target: Any, model: KnownModel
) -> LatentInput | None:
    if given is None:
        return _recognised(target, model)
    # the manifest's config names the latent; a generator of the attribution room knows its size itself
    shape, prior = model.latent or (None, "normal")
    size = getattr(target, "latent_dim", None)
    if shape is None and isinstance(size, int):
        shape = (size,)
    if isinstance(given, LatentInput):
        return LatentInput(given.name, given.shape or shape, given.prior or prior, given.batch)
    if isinstance(given, str):
        return LatentInput(given, shape, prior)
    signature = signature_of(target)
    names = list(signature.parameters) if signature else []
    if not names:
        raise UsageError("the latent is given by its shape, but the call has no parameter it could be: use LatentInput")
    return LatentInput(names[0], tuple(int(axis) for axis in given), prior)


def pool_of(recorder: Recorder, model: KnownModel, spec: LatentInput | None, epoch: bool) -> LatentPool | None:
    """Where committed latents come from; None where none can be drawn."""
    if spec is None or not spec.draw or spec.shape is None or (spec.prior or "normal") not in PRIORS:
        if epoch:
            raise UsageError("an epoch fixes the seeds of latents that are drawn here: say which argument that is")
        return None
    return LatentPool(recorder, model, spec.shape, spec.prior or "normal", epoch=epoch)


def _recognised(target: Any, model: KnownModel) -> LatentInput | None:
    """The argument that is the latent by its usual name, where the manifest says what a latent looks like."""
    signature = signature_of(target)
    if signature is None or model.latent is None:
        return None
    shape, prior = model.latent
    for name in LATENT_NAMES:
        if name in signature.parameters:
            return LatentInput(name, shape, prior, draw=False)
    return None
