"""Whether a generator can be recorded, replayed and inverted: what is wrong with a bad one, in one sentence.

A generator that fails here would not fail later with an error but with a false verdict: one that ignores its latent
matches nothing, one that mixes the pictures of a batch never replays, one without a gradient is never inverted.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import cast

import torch
from torch import Tensor

from ...schemas.errors import EvidenceError
from .protocol import Generator

DRAWS = 4
MAX_EXCESS = 0.1
"""Mean distance beyond the output range, in spans, above which the range is not this generator's. A picture of unit
normal samples on [-1, 1], as an untrained network without a final tanh makes, has 0.08."""
UPPER_HALF = 0.499
"""Sigmoid pictures under the range [-1, 1] of a tanh lie above the middle of it."""
MAX_BATCH_LEVELS = 2
"""Kernels of another batch size may round a sample to the next level; more is another picture."""


def check_generator(generator: Generator, *, seed: int = 0) -> tuple[str, ...]:
    """`EvidenceError` with what is wrong, or notes on what is odd but allowed; a few forward passes, one backward.

    Checked: finite parameters and outputs, the shape of a batch, the output range, that the pictures depend on the
    latent, have a gradient by it, are the same when made again, and do not depend on the rest of the batch.
    """
    name = f"generator {generator.name!r}"
    for key, tensor in _tensors(generator):
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            raise EvidenceError(f"{name}: tensor {key!r} holds NaN or infinity")
    z = generator.latent.draw(DRAWS, torch.Generator().manual_seed(seed))
    raws = [_raw(generator, z[i : i + 1], name) for i in range(DRAWS)]
    _check_range(generator, torch.cat(raws), name)
    pictures = [generator.output.to_uint8(raw.float()) for raw in raws]
    if all(torch.equal(raws[0], other) for other in raws[1:]):
        raise EvidenceError(f"{name} ignores its latent: {DRAWS} latents give one and the same picture")
    if not torch.equal(pictures[0], generator.output.to_uint8(_raw(generator, z[:1], name).float())):
        raise EvidenceError(f"{name} does not repeat itself: one latent gave two pictures")
    together = generator.output.to_uint8(_raw(generator, z[:2], name).float())
    levels = int((together.int() - torch.cat(pictures[:2]).int()).abs().max())
    if levels > MAX_BATCH_LEVELS:
        raise EvidenceError(f"{name} mixes the pictures of a batch: beside another one differs by {levels} levels")
    unused = _check_gradient(generator, z[:1], name)
    notes: list[str] = []
    if unused:
        notes.append(f"{name}: {unused} of {generator.latent.dim} latent numbers had no effect at the latent tried")
    darkest = float(generator.output.unit(torch.cat(raws).float()).min())
    if darkest > UPPER_HALF:
        low, high = generator.output.low, generator.output.high
        notes.append(f"{name}: its pictures use the upper half of [{low:g}, {high:g}] alone; is that its output range?")
    if all(torch.equal(pictures[0], other) for other in pictures[1:]):
        notes.append(f"{name}: {DRAWS} latents give the same 8-bit picture; nothing can be told from it")
    return tuple(notes)


def _tensors(generator: Generator) -> Iterator[tuple[str, Tensor]]:
    yield from generator.module.named_parameters()
    yield from generator.module.named_buffers()


def _raw(generator: Generator, z: Tensor, name: str) -> Tensor:
    """Raw outputs [B, C, H, W] of latents, their type, shape and finiteness checked."""
    output = generator.output
    try:
        with torch.no_grad():
            raw: object = generator.module(_like(generator, z))
    except Exception as error:  # the module may be anybody's: whatever it raises is its fault
        detail = " ".join(str(error).split())[:200]
        raise EvidenceError(f"{name} fails on {len(z)} of its own latents: {detail}") from error
    if not isinstance(raw, Tensor) or not raw.is_floating_point():
        kind = raw.dtype if isinstance(raw, Tensor) else type(raw).__name__
        raise EvidenceError(f"{name} must give a tensor of floating-point numbers, it gives {kind}")
    want = (len(z), output.channels, output.height, output.width)
    if tuple(raw.shape) != want:
        raise EvidenceError(f"{name} makes outputs {list(raw.shape)} of {len(z)} latents, not {list(want)}")
    if not bool(torch.isfinite(raw).all()):
        raise EvidenceError(f"{name} makes NaN or infinity of its own latents")
    return raw.cpu()


def _like(generator: Generator, z: Tensor) -> Tensor:
    weight = next(generator.module.parameters(), None)
    return z if weight is None else z.to(weight.device, weight.dtype)


def _check_range(generator: Generator, raw: Tensor, name: str) -> None:
    output = generator.output
    unit = output.unit(raw.float())
    excess = float(((unit - 1).clamp_min(0) + (-unit).clamp_min(0)).mean())
    if excess > MAX_EXCESS:
        low, high = float(raw.min()), float(raw.max())
        raise EvidenceError(
            f"{name} makes values from {low:.3g} to {high:.3g}, its output range is [{output.low:g}, {output.high:g}]"
        )


def _check_gradient(generator: Generator, z: Tensor, name: str) -> int:
    """How many latent numbers have no gradient at this latent; `EvidenceError` if none has, or one is not finite."""
    point = _like(generator, z).clone().requires_grad_(True)
    with torch.enable_grad():
        raw = generator.module(point)
        if not raw.requires_grad:
            raise EvidenceError(f"{name} is not differentiable by its latent, so it can be replayed but not inverted")
        # fixed random weights: a plain sum can be constant although the picture is not
        weight = torch.randn(raw.shape, generator=torch.Generator().manual_seed(1)).to(raw)
        try:
            found = torch.autograd.grad((raw * weight).sum(), point, allow_unused=True)
        except Exception as error:
            detail = " ".join(str(error).split())[:200]
            raise EvidenceError(f"{name} has no gradient by its latent: {detail}") from error
    gradient = cast("Tensor | None", found[0])
    if gradient is None:
        raise EvidenceError(f"{name} is not differentiable by its latent, so it can be replayed but not inverted")
    if not bool(torch.isfinite(gradient).all()):
        raise EvidenceError(f"{name} has a gradient by its latent that is NaN or infinite")
    unused = int((gradient == 0).sum())
    if unused == gradient.numel():
        raise EvidenceError(f"{name} has no gradient by its latent, although its pictures depend on it")
    return unused
