"""What of an opened record can be screened: its captured latent and the noise maps and styles whose values it keeps.

A latent that follows from its committed seed needs no screening: SHA-256 chose it. Opaque inputs and values that were
not kept are named as untested. Under Holm's correction all tests of a record hold one level together.
"""

from __future__ import annotations

import weakref

import numpy as np
from numpy.typing import NDArray

from ...ledger.entries.record import OpenedRecord
from ...ledger.seeds.committed import check_latent
from ...schemas.errors import EvidenceError
from ...schemas.record import Input
from ...schemas.text import unb64
from ..generators.protocol import Generator
from ..generators.styled import StyledGenerator
from ..generators.stylegan import StyleGAN
from .latents import screen_latent
from .maps import map_tests
from .screening import REPORT_LEVEL, SeedPlausibility, Test
from .styles import StyleStatistics, gain, mahalanobis, style_statistics

_FLOATS = {"float16": "<f2", "float32": "<f4", "float64": "<f8"}
SMALLEST_LATENT = 2


def screen_record(
    opened: OpenedRecord, generator: Generator, *, drawn: NDArray[np.floating] | None = None,
    level: float = REPORT_LEVEL,
) -> SeedPlausibility | None:  # fmt: skip
    """The screening of a record's free inputs, or None where it has none that could be chosen.

    `drawn` is the latent that a replay drew from a captured generator state. `EvidenceError` if stored values are not
    those of their digest.
    """
    tests: list[Test] = []
    untested: list[str] = []
    free = _latent(opened, generator, drawn, tests, untested)
    for name, item in (opened.noise or {}).items():
        free |= item.grade != "fixed"
        _noise(name, item, tests, untested)
    for name, item in (opened.style or {}).items():
        if item.tensor is not None and item.grade != "fixed":
            free = True
            _style(name, item, generator, tests, untested)
    if not free:
        return None
    return SeedPlausibility(tuple(tests), level, tuple(untested))


def _latent(
    opened: OpenedRecord, generator: Generator, drawn: NDArray[np.floating] | None, tests: list[Test],
    untested: list[str],
) -> bool:  # fmt: skip
    values: NDArray[np.floating] | None = drawn
    if opened.latent is not None:
        check = check_latent(opened.latent, opened.context)
        if check.derived:
            return False
        values = check.z
    elif drawn is None:
        return False
    if values is None or values.size < SMALLEST_LATENT or values.size != generator.latent.dim:
        untested.append("latent (its values were not kept)" if values is None else "latent (of another length)")
        return True
    found = screen_latent(values, generator.latent)
    tests += found.tests
    untested += found.untested
    return True


def array_of(item: Input) -> NDArray[np.float64] | None:
    """The values of a recorded array input; None where they were not kept or are no floats."""
    tensor = item.tensor
    if tensor is None or tensor.values is None or tensor.dtype not in _FLOATS:
        return None
    data = unb64(tensor.values, "input values")
    try:
        return np.frombuffer(data, dtype=_FLOATS[tensor.dtype]).reshape(tensor.shape).astype(np.float64)
    except ValueError as error:
        raise EvidenceError(f"an input's values are not of its shape: {error}") from None


def _noise(name: str, item: Input, tests: list[Test], untested: list[str]) -> None:
    values = array_of(item)
    if values is None or values.ndim < 2 or values.size < 4:
        untested.append(f"noise {name} (its values were not kept as one array)")
        return
    tests += map_tests(values, about=f"noise {name}")


def _style(name: str, item: Input, generator: Generator, tests: list[Test], untested: list[str]) -> None:
    """A style of W is held against W, AdaIN gains [C] against the layer's own; anything else is named."""
    values, module = array_of(item), generator.module
    if values is None or not isinstance(module, StyledGenerator) or not np.isfinite(values).all():
        untested.append(f"style {name} (nothing to hold it against)")
        return
    statistics = _statistics(generator)
    size = module.w_mean.numel()
    if name.startswith("gain") and isinstance(module, StyleGAN):
        last = len(module.layers) - 1
        tests.append(gain(statistics, last, values.ravel(), about=f"style {name}"))
    elif values.shape[-1] == size:
        rows = np.split(values.ravel(), values.size // size)
        tests += [mahalanobis(statistics, row, about=f"style {name}[{i}]") for i, row in enumerate(rows)]
    else:
        untested.append(f"style {name} (not of the length of a style)")


_KEPT: weakref.WeakKeyDictionary[Generator, StyleStatistics] = weakref.WeakKeyDictionary()


def _statistics(generator: Generator) -> StyleStatistics:
    """W's statistics of a generator, kept as long as it is."""
    found = _KEPT.get(generator)
    if found is None:
        module = generator.module
        if not isinstance(module, StyledGenerator):
            raise EvidenceError(f"generator {generator.name!r} has no styles")
        found = _KEPT[generator] = style_statistics(module)
    return found
