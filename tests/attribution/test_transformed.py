"""A picture changed beyond the relaxed scope is reproduced together with what was done to it, told or not."""

from __future__ import annotations

import copy
import dataclasses

import numpy as np
import pytest
import torch
from plausible.attribution.generators import Generator, make_generator
from plausible.attribution.inversion import affine
from plausible.attribution.inversion.affine import AffineNetwork, Freedom, bounded, start, transform, weights
from plausible.attribution.inversion.budget import FLOOR, Budget
from plausible.attribution.inversion.change import Transform
from plausible.attribution.inversion.network import Network
from plausible.attribution.inversion.noise import coarse_power, noise_level
from plausible.attribution.inversion.transformed import invert_transformed
from plausible.schemas.errors import UsageError

from benchmarks.attribution import manipulations

from .conftest import SIDE, UNIT, small_mlp, smooth
from .pictures import picture as natural

QUICK = Budget(adam_starts=8, adam_steps=30, lm_starts=2, lm_iterations=24, rounds=2)


def own(generator: Generator, seed: int) -> np.ndarray:
    return generator.sample(generator.latent.draw(1, torch.Generator().manual_seed(seed)))[0].numpy()


def image(pixels: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(pixels)).permute(2, 0, 1)[None].double() / 255


def test_columns_equal_differences_of_the_whole() -> None:
    generator, _ = small_mlp(1)
    theta = torch.tensor([0.3, 0.4, 0.2, 0.5, 0.2, 0.8, 0.4, 0.2, 1.0, 0.3, -0.4])
    point = torch.cat([torch.linspace(-1, 1, 6), theta])
    kept = weights(theta, 12, 12)
    joined = AffineNetwork(Network(generator), torch.zeros(generator.output.samples), kept, Freedom(tone=True))
    value, jacobian = joined.linearise(point, precise=True)
    assert torch.allclose(value, joined.unit(point[None])[0], atol=1e-6)
    for index in range(len(point)):
        step = torch.zeros_like(point)
        step[index] = 2e-3
        difference = (joined.unit((point + step)[None]) - joined.unit((point - step)[None]))[0] / 4e-3
        assert float((jacobian[index] - difference).norm() / difference.norm()) < 0.03, index


def test_what_is_not_free_has_no_column() -> None:
    generator, _ = small_mlp(1)
    kept = weights(affine.identity(), 12, 12)
    joined = AffineNetwork(Network(generator), torch.zeros(generator.output.samples), kept, Freedom(turn=False))
    _, jacobian = joined.linearise(torch.cat([torch.linspace(-1, 1, 6), start(12, 12, 0.95, 2.0, 0.5)]))
    gone = jacobian[6:].abs().amax(dim=1) == 0
    assert gone.tolist() == [False] * 4 + [True] + [False] * 4 + [True] * 2


@pytest.mark.parametrize("name", ["blur", "crop", "rotate", "zoom"])
def test_the_model_holds_each_manipulation_to_rounding(name: str) -> None:
    pixels = natural(np.random.default_rng(1), 48, 48)
    changed, parameters = manipulations.manipulated(name, pixels, 5)
    theta = affine.identity()
    theta[affine.CUBIC] = 0
    if name == "blur":
        taps = manipulations.kernel(parameters["kernel"])[parameters["kernel"] // 2 + 1 :]
        theta[5 : 5 + len(taps)] = torch.tensor(taps / affine.TAP_UNIT)
    elif name == "rotate":
        theta[affine.TURN] = start(48, 48, degrees=parameters["degrees"])[affine.TURN]
    else:
        x, y, w, h = parameters["window"]
        theta[affine.CUTS] = torch.tensor([x, 48 - x - w, y, 48 - y - h], dtype=torch.float32)
    kept = weights(theta, 48, 48)
    error = (transform(image(pixels), theta[None].double()) - image(changed)) * kept
    assert float(kept.mean()) > 0.75
    # rotation: OpenCV's places are rounded to 1/32 pixel
    assert float(error.square().mean() / kept.mean()) < (12 if name == "rotate" else 1.5) * FLOOR


def test_unknown_corners_weigh_nothing() -> None:
    theta = start(32, 32, degrees=5.0)
    kept = weights(theta, 32, 32)
    assert float(kept[0, 0]) == float(kept[-1, -1]) == 0
    assert float(kept[8:24, 8:24].min()) == 1
    black = image(np.zeros((32, 32, 3), np.uint8))
    ring = torch.nn.functional.pad(torch.ones_like(black), (8, 8, 8, 8))
    # what lies outside a picture never reaches a pixel that counts: outside black and outside reflected agree there
    grid = torch.zeros_like(ring)
    grid[..., 8:-8, 8:-8] = 1
    at = affine.places(theta[None].double(), 32, 32)
    places = (at + 8 + 0.5) / 24 - 1
    seen = torch.nn.functional.grid_sample(grid, places, mode="bilinear", align_corners=False)
    assert float((seen[0, 0] * kept).sum()) == pytest.approx(float(kept.sum()), abs=1e-2)


def test_bounds() -> None:
    theta = torch.full((1, affine.PARAMETERS), 99.0)
    put = bounded(theta, 64, 64)
    assert float(put[0, :2].sum()) <= 0.12 * 64 + 1e-4
    assert float(affine.degrees(put, 64, 64)) == pytest.approx(affine.LARGEST_TURN)
    assert torch.allclose(bounded(put, 64, 64), put)
    assert torch.allclose(bounded(start(64, 64, 0.92, 3.0, 0.6)[None], 64, 64), start(64, 64, 0.92, 3.0, 0.6)[None])


def test_a_rotated_and_a_blurred_picture_are_reproduced_with_their_changes() -> None:
    generator = smooth(1)
    pixels = own(generator, 7)
    turned = invert_transformed(manipulations.turn(pixels, 4.0), [generator], QUICK, seed=2, threads=1)[0]
    assert turned.floors < 20
    assert turned.transform.degrees == pytest.approx(4.0, abs=0.3)
    assert "rotation" in turned.transform.names()
    assert "turned by" in str(turned)
    blurred, parameters = manipulations.manipulated("blur", pixels[:, ::-1], 3)
    found = invert_transformed(blurred, [generator], QUICK, seed=2, threads=1)[0]
    assert found.floors < 20
    assert found.transform.mirrored
    assert "blur" in found.transform.names()
    error = (found.reconstruction.astype(float) - blurred) / 255
    assert float(np.square(error).mean()) == pytest.approx(found.residual, abs=4e-6 + 0.5 * found.residual)
    assert parameters["kernel"] in manipulations.KERNELS


def test_noise_is_told_and_the_true_generator_wins_over_its_clone() -> None:
    generator = smooth(1)
    module = copy.deepcopy(generator.module)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.mul_(1 + 0.1 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(3)))
    config = {"latent": 6, "hidden": [24], "height": SIDE, "width": SIDE, "channels": 3, "activation": "relu"}
    clone = make_generator("clone", module, "mlp-decoder", config, UNIT)
    probe = own(generator, 8).astype(float) + np.random.default_rng(4).normal(0, 8, (SIDE, SIDE, 3))
    noisy = np.rint(probe.clip(0, 255)).astype(np.uint8)
    one, two = invert_transformed(noisy, [clone, generator], QUICK, seed=5, threads=1)
    assert two.residual < one.residual
    assert one.kept == two.kept
    assert 6 < two.residual_levels < 9
    assert two.is_noise
    assert 5 < two.noise < 12


def test_noise_levels() -> None:
    pixels = natural(np.random.default_rng(2), 64, 64)
    assert noise_level(pixels) < 6
    noisy = np.rint((pixels + np.random.default_rng(3).normal(0, 25, pixels.shape)).clip(0, 255)).astype(np.uint8)
    assert noise_level(noisy) == pytest.approx(25, rel=0.1)
    assert noise_level(np.zeros((8, 8, 3), np.uint8)) == 0


def test_structure_under_noise_is_seen() -> None:
    rng = np.random.default_rng(3)
    white = rng.normal(0, 25, (64, 64, 3))
    structure = (natural(rng, 64, 64).astype(float) - 127) * 0.1
    assert coarse_power(white) == pytest.approx(1, abs=0.3)
    # a fiftieth of the power, but all of it coarse
    assert coarse_power(white + structure) > 1.5
    assert coarse_power(np.zeros((8, 8, 3))) == 0


def test_in_words() -> None:
    plain = Transform(False, 0, 0, 0, 0, 0, (0, 0, 0), 1, 1, 0)
    assert str(plain) == "unchanged"
    turned = dataclasses.replace(plain, mirrored=True, degrees=-3.14, left=2.0, taps=(0.2, 0.05, 0), gain=1.1)
    assert turned.names() == ("mirror", "rotation", "crop", "blur", "tone")
    assert "turned by -3.1 degrees" in str(turned)


def test_misuse_and_time() -> None:
    generator, _ = small_mlp(1)
    noise = np.random.default_rng(0).integers(0, 256, (12, 12, 3), dtype=np.uint8)
    assert invert_transformed(noise, [generator], Budget(seconds=0.0), seed=0)[0].stopped == "time"
    with pytest.raises(UsageError, match="resize"):
        invert_transformed(noise[:8], [generator], QUICK, seed=0)
    with pytest.raises(UsageError, match="polish"):
        invert_transformed(noise, [generator], Budget(lm_starts=0), seed=0)
