"""Architectures by name: the only code a model folder can ask for.

A builder takes the manifest's `config` and returns an `nn.Module` with `latent_dim` and `image_shape` (C, H, W) whose
forward maps latents [B, d] to raw outputs [B, C, H, W]. Third parties add theirs by the entry-point group
`plausible.architectures` (name = architecture, value = builder) or by calling `register_architecture`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib.metadata import entry_points
from typing import Any, TypeVar, cast

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
    builder = _builders.get(name)
    if builder is None:
        for point in entry_points(group=ENTRY_POINTS, name=name):
            builder = cast(Builder, point.load())
    if builder is None:
        known = ", ".join(known_architectures())
        raise SetupError(f"unknown architecture {name!r}: this installation knows {known}")
    try:
        return builder(config)
    except PlausibleError:
        raise
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise EvidenceError(f"the configuration of {name!r} builds no model: {error}") from error


def whole(config: Mapping[str, Any], key: str, default: int, low: int = 1, high: int = 4096) -> int:
    """The integer `config[key]` (or the default) within [low, high]; `EvidenceError` otherwise."""
    value = config.get(key, default)
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise EvidenceError(f"config {key!r} must be an integer from {low} to {high}")
    return value


def only(config: Mapping[str, Any], *keys: str) -> None:
    """`EvidenceError` if the config holds a key that the architecture does not read."""
    unknown = sorted(set(config) - {*keys, "prior"})
    if unknown:
        raise EvidenceError(f"config has unknown keys: {', '.join(unknown)}")
