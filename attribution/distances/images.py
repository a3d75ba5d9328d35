"""How far a picture of a generator is from the probe: pixels (000, 001, 004) or Inception features (004).

A distance is *prepared* once per probe and then compared with batches of pictures [B, C, H, W] on the scale [0, 1].
"""

from __future__ import annotations

from typing import Protocol

from torch import Tensor

from .inception import InceptionFeatures


class Distance(Protocol):
    """`between(images, prepare(probe))` is differentiable in the images and gives one number per picture."""

    @property
    def name(self) -> str:
        """Stable name: part of a calibration's key."""
        ...

    def prepare(self, probe: Tensor) -> Tensor:
        """What of the probe [1, C, H, W], in [0, 1], is compared."""
        ...

    def between(self, images: Tensor, prepared: Tensor) -> Tensor:
        """[B] distances."""
        ...


class L2:
    """Mean squared error over all samples, on the [0, 1] scale (000 Eq. 2)."""

    name = "l2"

    def prepare(self, probe: Tensor) -> Tensor:
        """The probe itself."""
        return probe

    def between(self, images: Tensor, prepared: Tensor) -> Tensor:
        """[B] mean squared errors."""
        return (images - prepared).square().flatten(1).mean(1)


class L2Feature:
    """004's l2-feature: Euclidean distance between Inception-V3 Mixed_5d maps."""

    def __init__(self, features: InceptionFeatures) -> None:
        self.name = f"l2-feature:{features.digest}"
        self._features = features

    def prepare(self, probe: Tensor) -> Tensor:
        """Mixed_5d map of the probe, flat [1, 352800]."""
        self._features.to(probe.device)
        return self._features(probe).flatten(1)

    def between(self, images: Tensor, prepared: Tensor) -> Tensor:
        """[B] Euclidean distances (not squared, not averaged)."""
        return (self._features(images).flatten(1) - prepared).norm(dim=1)
