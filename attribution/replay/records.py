"""Replay: run the registered generator on the record's own latent and compare with the picture at hand.

The latent follows from the committed seed (checked against what the record stores) or, where the call drew it itself,
from the recorded state of its random number generator (redraw.py). The batch has the recorded shape (all latents drawn
again, or the one recorded repeated; the picture taken at its recorded place), threads and backend flags are set as
recorded. A replay here may still differ from the author's machine, so the outcome says whether it ran *under the
record's own environment*: torch, device name, instruction set, threads, dtype, flags and batch shape. Only there, only
if the call had no input that the registered generator does not take, and only if a second run gives the same picture
again, does a difference contradict the record; elsewhere it is just "different".

Tolerance is the author's word, so it counts only up to MAX_LEVELS on at most MAX_FRACTION of the samples.
"""

from __future__ import annotations

import contextlib
from collections.abc import Generator as Yields
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ...ledger.entries.digests import canonical_pixels, pixel_digest
from ...ledger.entries.record import OpenedRecord
from ...ledger.recorder.environment import environment
from ...ledger.seeds.committed import check_latent
from ...schemas.errors import EvidenceError, SetupError, UsageError
from ...schemas.record import Environment
from ...schemas.text import parse_digest
from ..generators.protocol import Generator
from ..stages.findings import ReplayState
from .redraw import redraw

MAX_LEVELS = 1
MAX_FRACTION = 0.01
# A recorded batch larger than this is not repeated: the memory is the verifier's.
MAX_BATCH = 4096

Pixels = NDArray[np.uint8]


class NotReplayable(SetupError):  # noqa: N818  (an answer about a record, not a fault)
    """This record cannot be replayed here; the message says what is missing. Says nothing against the record."""


@dataclass(frozen=True, slots=True)
class Replay:
    """The outcome of a replay onto a picture.

    `state`: exact, tolerance, different, or contradicts (two equal replays under the record's own environment differ
    from what the *entry* names). `samples` and `levels`: how many 8-bit samples of the picture at hand differ, and by
    how much at most; None where the sizes differ.
    """

    state: ReplayState
    samples: int | None
    levels: int | None
    total: int
    reproduces_entry: bool  # the replayed picture has the entry's pixel digest
    batch: int
    device: str
    differing: tuple[str, ...]  # what of the environment is not as recorded
    pixels: Pixels = field(repr=False, compare=False)
    drawn: NDArray[np.float32] | None = field(default=None, repr=False, compare=False)
    """The latent [d] where it was drawn again from a recorded state."""

    def __str__(self) -> str:
        where = (
            "under the recorded environment" if not self.differing else f"{', '.join(self.differing)} not as recorded"
        )
        if self.state == "exact":
            return f"all {self.total} samples equal ({self.device}, batch of {self.batch}, {where})"
        if self.samples is None:
            return f"the replayed picture has another size ({self.device}, {where})"
        amount = f"{self.samples} of {self.total} samples differ by up to {self.levels} levels"
        return f"{amount} ({self.device}, batch of {self.batch}, {where})"


def replay(opened: OpenedRecord, generator: Generator, image: Pixels, *, device: str = "cpu") -> Replay:
    """Replay an opened record on `generator` and compare with `image`, uint8[H, W, 3 or 4].

    Raises `NotReplayable` if the record does not disclose what a replay needs or uses inputs that a registered
    generator does not take, `EvidenceError` if the record contradicts itself, `UsageError` for another model.
    """
    inputs = _inputs(opened, generator)
    target = canonical_pixels(image)
    with _as_recorded(opened.environment, device), _placed(generator, device):
        latents, pixels, reproduces = _reproduce(opened, generator, inputs)
        unused = unused_inputs(opened, redrawn=inputs.redrawn and reproduces)
        differing = (*environment_differences(opened.environment, environment(device)), *unused)
        state = _compare(opened, pixels, target)
        if not reproduces and not differing and np.array_equal(pixels, _run(generator, latents, inputs.index)):
            state = "contradicts"
    samples, levels = _difference(pixels, target)
    drawn = latents[inputs.index] if inputs.redrawn and reproduces else None
    return Replay(state, samples, levels, target.size, reproduces, len(latents), device, differing, pixels, drawn)


def recorded_latent(opened: OpenedRecord, generator: Generator) -> NDArray[np.float32]:
    """The latent [d] of a record; see `replay` for what is raised.

    One that the call drew itself is known only if a replay with it gives the very picture of the entry.
    """
    inputs = _inputs(opened, generator)
    if not inputs.redrawn:
        return inputs.ways[0][inputs.index]
    with _as_recorded(opened.environment, "cpu"):
        latents, _, reproduces = _reproduce(opened, generator, inputs)
    if not reproduces:
        raise NotReplayable("the latent that the call drew could not be drawn again: the picture comes out different")
    return latents[inputs.index]


@dataclass(frozen=True, slots=True)
class _Inputs:
    """What the recorded call may have given to the generator: one way where the record says it, else several."""

    ways: list[NDArray[np.float32]]
    """Each [batch, d]."""
    index: int
    redrawn: bool


def _reproduce(opened: OpenedRecord, generator: Generator, inputs: _Inputs) -> tuple[NDArray[np.float32], Pixels, bool]:
    """(latents, picture, whether it is the entry's) of the way that gives the entry's picture, or of the first."""
    entry = parse_digest(opened.context.pixels)
    first: tuple[NDArray[np.float32], Pixels] | None = None
    for latents in inputs.ways:
        pixels = _run(generator, latents, inputs.index)
        if pixel_digest(pixels) == entry:
            return latents, pixels, True
        first = first or (latents, pixels)
    if first is None:
        raise NotReplayable("the record holds no latent")
    return (*first, False)


def _inputs(opened: OpenedRecord, generator: Generator) -> _Inputs:
    if opened.context.model != generator.digest:
        raise UsageError(f"the record is of model {opened.context.model}, not of {generator.digest}")
    for name in ("latent", "call", "output"):
        if name not in opened.disclosed:
            raise NotReplayable(f"the opening does not disclose {name}")
    free = [*(opened.style or {}), *(opened.noise or {})]
    if free:
        raise NotReplayable(f"the record uses inputs that this generator does not take: {', '.join(sorted(free))}")
    batch = opened.call.batch if opened.call is not None else None
    size, index = (1, 0) if batch is None else (batch.size, batch.index)
    if size > MAX_BATCH:
        raise NotReplayable(f"the recorded batch of {size} is larger than the {MAX_BATCH} that are repeated here")
    if opened.latent is None:
        ways = list(redraw(opened, generator.latent, size))
        if not ways:
            raise NotReplayable("the record holds neither a latent nor the state that one was drawn from")
        return _Inputs(ways, index, redrawn=True)
    check = check_latent(opened.latent, opened.context)
    if check.status == "different":
        raise EvidenceError("the record's latent does not follow from its committed seed")
    if check.z is None:
        raise NotReplayable("the record keeps neither a seed nor the latent's values")
    z = np.asarray(check.z, np.float32).reshape(-1)
    if z.size != generator.latent.dim:
        raise EvidenceError(f"the record's latent has {z.size} numbers, the model takes {generator.latent.dim}")
    return _Inputs([np.repeat(z[None], size, axis=0)], index, redrawn=False)


def environment_differences(recorded: Environment | None, here: Environment) -> tuple[str, ...]:
    """Which parts of the recorded environment are not so here: what excuses a difference."""
    if recorded is None:
        return ("environment (not disclosed)",)
    pairs: list[tuple[str, object, object]] = [
        ("torch", recorded.torch, here.torch),
        ("device", recorded.device.name, here.device.name),
        ("instruction set", recorded.device.isa, here.device.isa),
        ("threads", recorded.device.threads, here.device.threads),
        ("dtype", recorded.dtype, here.dtype),
    ]
    names = sorted({*recorded.flags, *here.flags})
    pairs += [(f"flag {name}", recorded.flags.get(name), here.flags.get(name)) for name in names]
    return tuple(name for name, then, now in pairs if then != now)


def unused_inputs(opened: OpenedRecord, *, redrawn: bool = False) -> tuple[str, ...]:
    """What the recorded call was given beside latent, model and number of images: a replay by the registered generator
    does not use it, so a difference then says nothing against the record. `redrawn`: the random numbers were used."""
    drew = opened.rng is not None and bool(opened.rng.sources) and not redrawn
    unused = ["random numbers drawn in the call"] if drew else []
    call, latent = opened.call, opened.latent
    if call is None:
        return tuple(unused)
    for name, value in call.arguments.items():
        if value is None or value == call.batch.size:
            continue
        kind, inner = next(iter(value.items())) if isinstance(value, dict) and len(value) == 1 else (None, None)
        if kind in ("rng", "model") or (kind == "input" and inner == "latent"):
            continue
        shape = inner.get("shape") if kind == "tensor" and isinstance(inner, dict) else None
        row = None if latent is None else latent.shape
        if row is not None and isinstance(shape, list) and tuple(shape[len(shape) - len(row) :]) == row:
            continue  # the latents of the whole batch
        unused.append(f"argument {name}")
    return tuple(unused)


def _compare(opened: OpenedRecord, pixels: Pixels, target: Pixels) -> ReplayState:
    samples, levels = _difference(pixels, target)
    if samples == 0:
        return "exact"
    tolerance = opened.tolerance
    if samples is None or levels is None or tolerance is None:
        return "different"
    fraction = min(tolerance.fraction[0] / tolerance.fraction[1], MAX_FRACTION)
    within = levels <= min(tolerance.levels, MAX_LEVELS) and samples <= fraction * target.size
    return "tolerance" if within else "different"


def _difference(pixels: Pixels, target: Pixels) -> tuple[int | None, int | None]:
    if pixels.shape != target.shape:
        return None, None
    difference = np.abs(pixels.astype(np.int16) - target.astype(np.int16))
    return int(np.count_nonzero(difference)), int(difference.max(initial=0))


def _run(generator: Generator, latents: NDArray[np.float32], index: int) -> Pixels:
    return canonical_pixels(generator.sample(torch.from_numpy(latents))[index].numpy())


@contextlib.contextmanager
def _placed(generator: Generator, device: str) -> Yields[None]:
    """The generator on `device` for a while."""
    before = generator.device
    try:
        if torch.device(device) != before:
            generator.to(device)
    except (RuntimeError, AssertionError) as error:
        raise SetupError(f"the device {device!r} cannot be used here: {str(error).splitlines()[0]}") from error
    try:
        yield
    finally:
        if generator.device != before:
            generator.to(before)


@contextlib.contextmanager
def _as_recorded(recorded: Environment | None, device: str) -> Yields[None]:
    """Threads and backend flags as the record has them, where this machine lets them be set; restored afterwards."""
    threads, precision = torch.get_num_threads(), torch.get_float32_matmul_precision()
    backends: Any = torch.backends
    mkldnn = bool(backends.mkldnn.enabled)
    flags = {} if recorded is None else dict(recorded.flags)
    try:
        if recorded is not None and recorded.device.threads and device == "cpu":
            # more threads than recorded pictures need would only cost memory
            torch.set_num_threads(min(recorded.device.threads, 1024))
        if flags.get("matmul_precision") in ("highest", "high", "medium"):
            torch.set_float32_matmul_precision(str(flags["matmul_precision"]))
        if isinstance(flags.get("mkldnn"), bool):
            torch.backends.mkldnn.set_flags(bool(flags["mkldnn"]))
        yield
    finally:
        torch.set_num_threads(threads)
        torch.set_float32_matmul_precision(precision)
        torch.backends.mkldnn.set_flags(mkldnn)


def replay_pictures(latents: NDArray[np.float32], generator: Generator, *, batch: int = 64) -> Iterator[Pixels]:
    """Pictures of many latents [N, d] for the copy search, which does not need them bit for bit."""
    for start in range(0, len(latents), batch):
        for picture in generator.sample(torch.from_numpy(latents[start : start + batch])).numpy():
            yield canonical_pixels(picture)
