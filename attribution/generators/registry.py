"""Architectures by name: the only code a model folder can ask for.

A builder takes the manifest's `config` and returns an `nn.Module` with `latent_dim` and `image_shape` (C, H, W) whose
forward maps latents [B, d] to raw outputs [B, C, H, W]. Third parties add theirs by the entry-point group
`plausible.architectures` (name = architecture, value = builder) or by calling `register_architecture`.

A model folder brings no code: it can only name an architecture. A package's code runs when a manifest names its
architecture exactly; whoever installed the package chose that. Names that ship cannot be taken over by a package.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib.metadata import entry_points
from typing import Any, TypeVar, cast

import torch
from torch import nn

from ...schemas.errors import EvidenceError, PlausibleError, SetupError, UsageError

ENTRY_POINTS = "plausible.architectures"

Builder = Callable[[Mapping[str, Any]], nn.Module]
B = TypeVar("B", bound=Callable[..., nn.Module])

_builders: dict[str, Builder] = {}


def register_architecture(name: str) -> Callable[[B], B]:
    """Decorator: make `builder` the one for `name`; `UsageError` if another one has the name."""

    def register(builder: B) -> B:
        known = _builders.get(name)
        if known is not None and known is not builder:
            raise UsageError(f"the architecture {name!r} is registered already")
        _builders[name] = builder
        return builder

    return register


def known_architectures() -> list[str]:
    """Names that `build` would find, sorted; entry points are listed without being loaded."""
    return sorted({*_builders, *(point.name for point in entry_points(group=ENTRY_POINTS))})


def build(name: str, config: Mapping[str, Any]) -> nn.Module:
    """A fresh module with undefined weights; `SetupError` for an unknown name, `EvidenceError` for a bad config."""
    builder = _builders.get(name) or _load(name)
    try:
        module = builder(config)
    except PlausibleError:
        raise
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise EvidenceError(f"the configuration of {name!r} builds no model: {error}") from error
    if not all(hasattr(module, attribute) for attribute in ("forward", "latent_dim", "image_shape")):
        raise SetupError(f"the architecture {name!r} builds no torch module with latent_dim and image_shape")
    return module


def fresh(name: str, config: Mapping[str, Any], seed: int) -> nn.Module:
    """A module with its family's initial weights, the same for the same seed; the global random state stays."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return build(name, config)


def _load(name: str) -> Builder:
    """The builder that exactly one installed package names; its code runs now, and never for a mere listing."""
    points = list(entry_points(group=ENTRY_POINTS, name=name))
    if not points:
        known = ", ".join(known_architectures())
        raise SetupError(f"unknown architecture {name!r}: this installation knows {known}")
    if len({point.value for point in points}) > 1:
        values = ", ".join(point.value for point in points)
        raise SetupError(f"several installed packages bring an architecture {name!r}: {values}")
    try:
        builder = points[0].load()
    except Exception as error:
        raise SetupError(f"the architecture {name!r} ({points[0].value}) does not load: {error}") from error
    if not callable(builder):
        raise SetupError(f"the architecture {name!r} ({points[0].value}) is no builder but a {type(builder).__name__}")
    return _builders.setdefault(name, cast(Builder, builder))


def whole(config: Mapping[str, Any], key: str, default: int, low: int = 1, high: int = 4096) -> int:
    """The integer `config[key]` (or the default) within [low, high]; `EvidenceError` otherwise."""
    value = config.get(key, default)
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise EvidenceError(f"config {key!r} must be an integer from {low} to {high}")
    return value


def power(config: Mapping[str, Any], key: str, default: int) -> int:
    """The power of two `config[key]` (or the default) within [8, 1024]; `EvidenceError` otherwise."""
    value = whole(config, key, default, 8, 1024)
    if value & (value - 1):
        raise EvidenceError(f"config {key!r} must be a power of two from 8 to 1024")
    return value


def flag(config: Mapping[str, Any], key: str) -> bool:
    """The boolean `config[key]`, false if absent; `EvidenceError` otherwise."""
    value = config.get(key, False)
    if not isinstance(value, bool):
        raise EvidenceError(f"config {key!r} must be true or false")
    return value


def only(config: Mapping[str, Any], *keys: str) -> None:
    """`EvidenceError` if the config holds a key that the architecture does not read."""
    unknown = sorted(set(config) - {*keys, "prior"})
    if unknown:
        raise EvidenceError(f"config has unknown keys: {', '.join(unknown)}")
