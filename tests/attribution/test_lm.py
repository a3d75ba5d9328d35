"""Levenberg-Marquardt under a prior: where a run ends on a linear model, whose answer is known."""

from __future__ import annotations

import pytest
import torch
from plausible.attribution.inversion import lm
from torch import Tensor

DIM, SAMPLES = 6, 400


class Linear:
    """Pictures z A; the last number has no prior."""

    device = torch.device("cpu")

    def __init__(self) -> None:
        generator = torch.Generator().manual_seed(5)
        self.a = torch.randn(DIM, SAMPLES, generator=generator) / 20
        self.noise = torch.randn(SAMPLES, generator=generator) / 10
        self.truth = torch.randn(DIM, generator=generator)
        self.normal = torch.tensor([1.0] * (DIM - 1) + [0.0])

    def unit(self, z: Tensor) -> Tensor:
        return z @ self.a

    def linearise(self, z: Tensor) -> tuple[Tensor, Tensor]:
        return z @ self.a, self.a

    def project(self, points: Tensor) -> Tensor:
        return points


@pytest.mark.parametrize("prior", [0.0, 3.0, 30.0])
def test_a_run_ends_at_the_most_probable_point(prior: float) -> None:
    model = Linear()
    target = model.unit(model.truth) + model.noise
    run = lm.start(model, target, torch.zeros(DIM))
    lm.advance(run, model, target, iterations=40, chords=3, goal=0.0, prior=prior)
    assert run.residual == pytest.approx(float((model.unit(run.z) - target).square().mean()), rel=1e-5)
    ridge = torch.diag(prior * run.residual * model.normal)
    expected = torch.linalg.solve(model.a @ model.a.T + ridge, model.a @ target)
    assert torch.allclose(run.z, expected, atol=0.02)
    least_squares = torch.linalg.lstsq(model.a.T, target).solution
    shrunk = float((run.z * model.normal).norm() / (least_squares * model.normal).norm())
    assert shrunk == pytest.approx(1, abs=1e-3) if prior == 0 else shrunk < 0.99


def test_the_prior_is_gone_at_the_floor() -> None:
    model = Linear()
    target = model.unit(model.truth)
    run = lm.start(model, target, torch.zeros(DIM))
    lm.advance(run, model, target, iterations=40, chords=3, goal=1e-12, prior=30.0)
    assert run.status == "floor"
    assert torch.allclose(run.z, model.truth, atol=1e-3)
