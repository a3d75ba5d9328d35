"""Whether a generator of digits is healthy: its pictures are digits, of all ten kinds, and not one picture many times.

A small classifier, trained on four fifths of the real digits and scored on the rest, judges 2,000 pictures:

    recognised   share that it gives one class with probability 0.9 or more, beside the same share of unseen real digits
    rarest       share of the rarest of the ten classes among all pictures; 0.1 would be even
    variety      mean squared distance between two pictures of one class, over the same between unseen real digits
    distance     Frechet distance of the classifier's last hidden features to real digits, beside real against real

Limits (`Health.complaints`): a collapsed, black or noisy generator fails them, and an attribution between two such says
nothing. Nothing here decides about probes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from benchmarks.data import CACHE, more_mnist

Pixels = NDArray[np.uint8]
SURE = 0.9
PICTURES = 2000
STEPS, BATCH = 1500, 128
FEATURES = 64


@dataclass(frozen=True, slots=True)
class Health:
    """What the classifier says of one source of pictures; shares in [0, 1]."""

    recognised: float
    classes: tuple[float, ...]
    variety: float
    distance: float

    @property
    def rarest(self) -> float:
        """Share of the rarest class."""
        return min(self.classes)

    def complaints(self) -> list[str]:
        """What is unhealthy, in half sentences; empty for a healthy generator."""
        found: list[str] = []
        if self.recognised < 0.8:
            found.append(f"only {self.recognised:.1%} of the pictures are recognised as digits")
        if self.rarest < 0.03:
            found.append(f"the rarest digit makes up {self.rarest:.1%} of the pictures")
        if self.variety < 0.6:
            found.append(f"pictures of one digit differ by {self.variety:.2f} of what real ones do")
        return found


class Judge:
    """The classifier, its score on unseen real digits (`accuracy`) and what it says of those (`real`)."""

    def __init__(self, network: nn.Sequential, pictures: Pixels, labels: Pixels) -> None:
        self.network = network
        self._features = network[:-2]
        seen, unseen = _split(len(pictures))
        _, self._seen_moments = self._look(pictures[seen][:PICTURES])
        told, moments = self._look(pictures[unseen])
        self.accuracy = float((told.argmax(1).numpy() == labels[unseen]).mean())
        self._scale = _variety(pictures[unseen], labels[unseen])
        self.real = self._health(pictures[unseen], told, moments)

    @torch.no_grad()
    def _look(self, pictures: Pixels) -> tuple[Tensor, tuple[NDArray[np.float64], NDArray[np.float64]]]:
        features = torch.cat([self._features(part) for part in _unit(pictures).split(500)])
        values = features.double().numpy()
        return self.network[-2:](features).softmax(1), (values.mean(0), np.cov(values.T))

    def _health(
        self, pictures: Pixels, told: Tensor, moments: tuple[NDArray[np.float64], NDArray[np.float64]]
    ) -> Health:
        chosen = told.argmax(1).numpy()
        shares = np.bincount(chosen, minlength=10) / len(chosen)
        return Health(
            recognised=float((told.max(1).values >= SURE).double().mean()),
            classes=tuple(float(share) for share in shares),
            variety=_variety(pictures, chosen) / self._scale,
            distance=_frechet(moments, self._seen_moments),
        )

    def judge(self, pictures: Pixels) -> Health:
        """The health of uint8 [N, 28, 28]."""
        return self._health(pictures, *self._look(pictures))

    def sampled(self, draw: Callable[[int], Pixels]) -> Health:
        """The health of `PICTURES` pictures that `draw(count)` makes."""
        return self.judge(draw(PICTURES).reshape(-1, 28, 28))


def judge(path: Path = CACHE / f"digit-classifier-{STEPS}.pt") -> Judge:
    """The classifier trained on real digits, kept at `path`."""
    pictures, labels = more_mnist()
    network = classifier()
    if path.is_file():
        network.load_state_dict(torch.load(path, weights_only=True))
    else:
        seen, _ = _split(len(pictures))
        fit(network, pictures[seen], labels[seen])
        temporary = path.with_suffix(".new")
        torch.save(network.state_dict(), temporary)
        temporary.replace(path)
    return Judge(network.eval().requires_grad_(False), pictures, labels)


def classifier() -> nn.Sequential:
    """[B, 1, 28, 28] on [0, 1] to logits [B, 10]; `FEATURES` numbers before the last layer."""
    return nn.Sequential(
        nn.Conv2d(1, 16, 5, 2, 2), nn.ReLU(), nn.Conv2d(16, 32, 5, 2, 2), nn.ReLU(), nn.Flatten(),
        nn.Linear(32 * 49, FEATURES), nn.ReLU(), nn.Dropout(0.3), nn.Linear(FEATURES, 10),
    )  # fmt: skip


def fit(network: nn.Sequential, pictures: Pixels, labels: Pixels, steps: int = STEPS) -> None:
    """Train in place; weights, order and dropout follow one fixed seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        for layer in network:
            if isinstance(layer, (nn.Conv2d, nn.Linear)):
                layer.reset_parameters()
        adam = torch.optim.Adam(network.parameters(), lr=1e-3)
        told = torch.from_numpy(labels.astype(np.int64))
        network.train()
        for _ in range(steps):
            rows = torch.randint(len(pictures), (BATCH,))
            loss = functional.cross_entropy(network(_unit(pictures[rows.numpy()])), told[rows])
            adam.zero_grad()
            loss.backward()
            adam.step()


def _unit(pictures: Pixels) -> Tensor:
    return torch.from_numpy(pictures.reshape(len(pictures), 1, 28, 28)).float() / 255


def _split(count: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows to learn from and rows held back, a fifth."""
    order = np.random.default_rng(0).permutation(count)
    return order[count // 5 :], order[: count // 5]


def _variety(pictures: Pixels, labels: NDArray[np.integer]) -> float:
    """Mean over the classes of the mean squared distance between two pictures of one class; lone pictures left out."""
    flat = pictures.reshape(len(pictures), -1) / 255
    return float(np.mean([2 * flat[labels == k].var(0).mean() for k in range(10) if (labels == k).sum() > 1]))


def _frechet(
    one: tuple[NDArray[np.float64], NDArray[np.float64]], other: tuple[NDArray[np.float64], NDArray[np.float64]]
) -> float:
    """Squared distance of the means plus the trace of C1 + C2 - 2 (C1 C2)^(1/2)."""
    (mean, spread), (mean2, spread2) = one, other
    values, vectors = np.linalg.eigh(spread)
    root = (vectors * np.sqrt(values.clip(0))) @ vectors.T
    # the roots of C1 C2 are those of the symmetric C1^(1/2) C2 C1^(1/2)
    cross = np.sqrt(np.linalg.eigvalsh(root @ spread2 @ root).clip(0)).sum()
    return float(np.square(mean - mean2).sum() + np.trace(spread + spread2) - 2 * cross)
