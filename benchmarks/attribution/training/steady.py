"""A GAN trained in slices that can be interrupted: 004's MNIST pair and siblings of the face generator, in CPU minutes.

What it does beside the usual loop, so that few steps suffice and nothing collapses: a deeper critic with BatchNorm,
real and generated pictures in batches of their own (Radford et al. 2016); where the pictures have labels, a critic that
tells the classes too, its log-sum-exp standing for "real" (Salimans et al. 2016, section 5); a running mean of the
generator's weights (its BatchNorm statistics are taken again for that mean), bfloat16 products where the processor has
them. The generator's layers stay as published; the critic, which is thrown away, may be any.

Each step's batch, noise and dropout follow (seed, step) alone: an interrupted training goes on as if it had not been.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from plausible.attribution.generators import fresh
from plausible.attribution.inversion.network import bfloat16_is_native
from plausible.schemas.errors import EvidenceError
from torch import Tensor, nn
from torch.nn import functional

Pixels = NDArray[np.uint8]
STATISTICS_BATCHES = 16


@dataclass(frozen=True, slots=True)
class Steady:
    """Constants of a training. `mean` is the decay of the running mean."""

    steps: int
    batch: int = 32
    rate: float = 5e-4
    critic_rate: float = 2e-4
    beta1: float = 0.5
    mean: float = 0.998
    latent: int = 100


class Training:
    """Generator, critic, their Adams and the running mean at one step; `data` is uint8 [N, C, H, W].

    The critic gives logits [B], or [B, classes] where `labels` [N] are given.
    """

    def __init__(
        self, architecture: str, config: Mapping[str, Any], critic: Callable[[], nn.Module], data: Pixels,
        recipe: Steady, *, seed: int, low: float, labels: NDArray[np.integer] | None = None,
    ) -> None:  # fmt: skip
        self.recipe, self.seed, self.step, self.seconds = recipe, seed, 0, 0.0
        self.data, self.low = torch.from_numpy(data), low
        self._labels = None if labels is None else torch.from_numpy(labels.astype(np.int64))
        self.module = fresh(architecture, dict(config), seed).requires_grad_(True).train()
        self.average = copy.deepcopy(self.module).requires_grad_(False)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.critic = critic().train()
        betas = (recipe.beta1, 0.999)
        self.adams = [
            torch.optim.Adam(self.module.parameters(), lr=recipe.rate, betas=betas),
            torch.optim.Adam(self.critic.parameters(), lr=recipe.critic_rate, betas=betas),
        ]
        self.losses = torch.zeros(2)
        self._reduced = bfloat16_is_native(torch.device("cpu"))

    def advance(self, steps: int, until: float | None = None) -> None:
        """At most so many steps more, none beyond the recipe's, none after `until` (time.monotonic())."""
        began = time.process_time()
        for _ in range(min(steps, self.recipe.steps - self.step)):
            if until is not None and time.monotonic() > until:
                break
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed((self.seed << 32) + self.step)
                self._advance()
            self.step += 1
        self.seconds += time.process_time() - began

    @property
    def done(self) -> bool:
        """Whether all steps of the recipe were made."""
        return self.step >= self.recipe.steps

    def _advance(self) -> None:
        recipe = self.recipe
        rows = torch.randint(len(self.data), (recipe.batch,))
        real = self.data[rows].float() / 255 * (1 - self.low) + self.low
        noise = torch.randn(recipe.batch, recipe.latent)
        made = self._reduce(self.module, noise)
        told = self._reduce(self.critic, real)
        loss = functional.softplus(-self._real(told)).mean()
        loss = loss + functional.softplus(self._real(self._reduce(self.critic, made.detach()))).mean()
        if self._labels is not None:
            loss = loss + functional.cross_entropy(told, self._labels[rows])
        self.adams[1].zero_grad()
        loss.backward()
        self.adams[1].step()
        self.critic.requires_grad_(False)
        fooled = self._reduce(self.critic, made)
        own = functional.softplus(-self._real(fooled)).mean()
        self.adams[0].zero_grad()
        own.backward()
        self.adams[0].step()
        self.critic.requires_grad_(True)
        decay = min(recipe.mean, (1 + self.step) / (10 + self.step))
        with torch.no_grad():
            for mean, value in zip(self.average.parameters(), self.module.parameters(), strict=True):
                mean.lerp_(value, 1 - decay)
            self.losses = self.losses.lerp(torch.stack([own.detach(), loss.detach()]), 0.01)

    def _reduce(self, network: nn.Module, given: Tensor) -> Tensor:
        """What the network makes of it, float32, its products in bfloat16 where those are native."""
        with torch.autocast("cpu", torch.bfloat16, enabled=self._reduced):
            return network(given).float()

    def _real(self, told: Tensor) -> Tensor:
        """[B] logits of "real" of what the critic told."""
        return told if self._labels is None else told.logsumexp(1)

    @torch.no_grad()
    def result(self) -> nn.Module:
        """The running mean in eval mode, its BatchNorm statistics measured on fresh latents."""
        module = copy.deepcopy(self.average).train()
        norms = [layer for layer in module.modules() if isinstance(layer, (nn.BatchNorm1d, nn.BatchNorm2d))]
        for layer in norms:
            layer.reset_running_stats()
        rng = torch.Generator().manual_seed(self.seed)
        for number in range(STATISTICS_BATCHES if norms else 0):
            for layer in norms:
                layer.momentum = 1 / (number + 1)
            module(torch.randn(128, self.recipe.latent, generator=rng))
        return module.eval().requires_grad_(False)

    def save(self, path: Path) -> None:
        """Write everything to a temporary name, then rename."""
        state = {"recipe": asdict(self.recipe), "seed": self.seed, "step": self.step, "seconds": self.seconds,
                 "module": self.module.state_dict(), "critic": self.critic.state_dict(),
                 "average": self.average.state_dict(), "adams": [adam.state_dict() for adam in self.adams],
                 "losses": self.losses}  # fmt: skip
        temporary = path.with_suffix(".new")
        torch.save(state, temporary)
        temporary.replace(path)

    def load(self, path: Path) -> None:
        """Go on from what `save` wrote for the same recipe and seed; `EvidenceError` for another's."""
        state = torch.load(path, weights_only=True, map_location="cpu")
        asked = {key: value for key, value in asdict(self.recipe).items() if key != "steps"}
        kept = {key: value for key, value in state["recipe"].items() if key != "steps"}
        if (kept, state["seed"]) != (asked, self.seed):
            raise EvidenceError(f"{path} was trained by another recipe or seed: delete it to begin again")
        self.module.load_state_dict(state["module"])
        self.critic.load_state_dict(state["critic"])
        self.average.load_state_dict(state["average"])
        for adam, kept_adam in zip(self.adams, state["adams"], strict=True):
            adam.load_state_dict(kept_adam)
        self.step, self.seconds, self.losses = state["step"], state["seconds"], state["losses"]
