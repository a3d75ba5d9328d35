"""A changed own picture is found again with its change, within the scope and the same way every time."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from plausible.attribution.calibration.classes import resize
from plausible.attribution.generators import Generator
from plausible.attribution.inversion import invert, invert_relaxed
from plausible.attribution.inversion.budget import Budget
from plausible.attribution.inversion.network import Network
from plausible.attribution.inversion.warp import SIGMA, WarpedNetwork, bounded, start, warp
from plausible.schemas.errors import UsageError

from .conftest import SIDE, small_mlp, smooth

QUICK = Budget(adam_starts=6, adam_steps=30, lm_starts=2, lm_iterations=30, rounds=2)


def picture(generator: Generator, seed: int) -> np.ndarray:
    return generator.sample(generator.latent.draw(1, torch.Generator().manual_seed(seed)))[0].numpy()


def test_columns_equal_differences_of_the_whole() -> None:
    generator, _ = small_mlp(1)
    network = Network(generator)
    # a probe that pulls every number of theta inwards or lies away from its bounds: no column is left out
    point = torch.cat([torch.linspace(-1, 1, 6), torch.tensor([0.3, 0.4, 0.2, 0.5, 0.6])])
    warped = WarpedNetwork(network, torch.zeros(generator.output.samples))
    value, jacobian = warped.linearise(point, precise=True)
    assert torch.allclose(value, warped.unit(point[None])[0], atol=1e-6)
    for index in range(len(point)):
        step = torch.zeros_like(point)
        step[index] = 2e-3
        difference = (warped.unit((point + step)[None]) - warped.unit((point - step)[None]))[0] / 4e-3
        assert float((jacobian[index] - difference).norm() / difference.norm()) < 0.02


def test_the_identity_changes_nothing_and_a_crop_is_pillows() -> None:
    pixels = picture(smooth(1), 3)
    image = torch.from_numpy(pixels).permute(2, 0, 1)[None].double()
    same = warp(image, start(SIDE, SIDE, sigma=SIGMA[0])[None].double())
    assert float((same - image).abs().max()) < 1e-2
    back = resize(np.ascontiguousarray(pixels[1:19, 1:20]), SIDE, SIDE, "bicubic")
    theta = torch.tensor([[1.0, 0.0, 1.0, 1.0, SIGMA[0]]]).double()
    cropped = warp(image, theta)[0].permute(1, 2, 0).numpy()
    # edges aside, where Pillow does not see past the cut; it rounds once after each axis
    assert np.abs(cropped - back)[3:-3, 3:-3].max() < 1.6


def test_bounds_are_the_scopes() -> None:
    theta = torch.tensor([[-1.0, 2.0, 9.0, 3.0, 9.0], [0.5, 0.5, 0.0, 0.0, 0.0]])
    left, right, top, bottom, sigma = bounded(theta, 20, 30).unbind(1)
    assert torch.allclose(left, torch.tensor([0.0, 0.5]))
    assert torch.allclose(right, torch.tensor([2.0, 0.5]))
    assert torch.allclose(top + bottom, torch.tensor([2.0, 0.0]))
    assert torch.allclose(top[0] / bottom[0], torch.tensor(3.0))
    assert torch.allclose(sigma, torch.tensor([SIGMA[1], SIGMA[0]]))
    assert torch.allclose(bounded(bounded(theta, 20, 30), 20, 30), bounded(theta, 20, 30))


def test_a_number_pulled_out_of_the_scope_is_left_out() -> None:
    generator, _ = small_mlp(1)
    network = Network(generator)
    z = torch.linspace(-1, 1, 6)
    point = torch.cat([z, start(12, 12)])
    whole = network.unit(z[None]).reshape(1, 3, 12, 12)
    # the probe is shifted beyond the left edge: only a negative cut would follow it
    target = warp(whole, torch.tensor([[-0.5, 0.5, 0.0, 0.0, 0.5]])).flatten()
    _, jacobian = WarpedNetwork(network, target).linearise(point)
    assert float(jacobian[6].abs().max()) == 0
    assert float(jacobian[7].abs().max()) > 0


@pytest.mark.parametrize("mirrored", [False, True])
def test_a_cropped_own_picture_is_recovered(mirrored: bool) -> None:
    generator = smooth(1)
    pixels = picture(generator, 7)
    probe = resize(np.ascontiguousarray(pixels[0:19, 2:20]), SIDE, SIDE, "bicubic")
    if mirrored:
        probe = np.ascontiguousarray(probe[:, ::-1])
    plain = invert(probe, [generator], QUICK, seed=2, threads=1)[0]
    found = invert_relaxed(probe, [generator], QUICK, seed=2, threads=1)[0]
    assert found.floors < 20
    assert found.floors < plain.floors / 5
    change = found.change
    assert change.mirrored is mirrored
    left, right = (change.right, change.left) if mirrored else (change.left, change.right)
    assert (left, right, change.top, change.bottom) == pytest.approx((2, 0, 0, 1), abs=0.2)
    error = found.reconstruction.astype(float) / 255 - probe / 255
    assert float(np.square(error).mean()) == pytest.approx(found.residual, abs=2e-6)


def test_the_same_every_time_and_whatever_the_other_candidates() -> None:
    generator, _ = small_mlp(1)
    other, _ = small_mlp(2)
    probe = np.ascontiguousarray(picture(generator, 4)[:, ::-1])
    one = invert_relaxed(probe, [generator], QUICK, seed=3, threads=1)[0]
    _, two = invert_relaxed(probe, [other, generator], QUICK, seed=3, threads=1)
    assert one.change == two.change
    assert np.array_equal(one.z, two.z)
    assert one.residual == two.residual


def test_what_lies_outside_the_scope_is_not_undone() -> None:
    generator = smooth(1)
    pixels = picture(generator, 7)
    probe = resize(np.ascontiguousarray(pixels[:14, :14]), SIDE, SIDE, "bicubic")
    found = invert_relaxed(probe, [generator], QUICK, seed=2, threads=1)[0]
    c = found.change
    assert min(c.left, c.right, c.top, c.bottom) >= 0
    assert max(c.left + c.right, c.top + c.bottom) <= 0.1 * SIDE + 1e-4
    assert found.floors > 50


def test_time_guard_and_misuse() -> None:
    generator, _ = small_mlp(1)
    noise = np.random.default_rng(0).integers(0, 256, (12, 12, 3), dtype=np.uint8)
    result = invert_relaxed(noise, [generator], Budget(seconds=0.0), seed=0)[0]
    assert result.out_of_budget
    with pytest.raises(UsageError, match="resize"):
        invert_relaxed(noise[:8], [generator], QUICK, seed=0)
