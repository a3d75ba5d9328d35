"""Small generators with random weights that the attribution tests share: quick, and without any file from outside."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from plausible.attribution.generators import Generator, make_generator
from plausible.attribution.generators.dcgan import DCGAN64
from plausible.attribution.generators.mlp import MLPDecoder

from tests.attribution.batches import draw
from tests.attribution.studio import model_folder

UNIT = {"output_range": [0, 1], "rounding": "mul255_add0.5_floor"}
SIDE = 20
"""Of `smooth` pictures."""
SIGNED = {"output_range": [-1, 1], "rounding": "mul127.5_add128_trunc"}


def small_mlp(seed: int, name: str = "mlp") -> tuple[Generator, dict[str, Any]]:
    """A 6-number decoder of 12x12 RGB pictures; the config it is built from."""
    config = {"latent": 6, "hidden": [24, 32], "height": 12, "width": 12, "channels": 3, "activation": "relu"}
    torch.manual_seed(seed)
    module = MLPDecoder(6, [24, 32], (3, 12, 12))
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.mul_(2.5)
    return make_generator(name, module, "mlp-decoder", config, UNIT), config


def smooth(seed: int) -> Generator:
    """A decoder whose pictures are smooth, as those of a trained one are: rows of random weights, blurred."""
    config = {"latent": 6, "hidden": [24], "height": SIDE, "width": SIDE, "channels": 3, "activation": "relu"}
    torch.manual_seed(seed)
    module = MLPDecoder(6, [24], (3, SIDE, SIDE))
    places = torch.arange(SIDE)
    blur = torch.exp(-0.5 * ((places[:, None] - places) / 2.0).square())
    blur = blur / blur.sum(1, keepdim=True)
    with torch.no_grad():
        last = [layer for layer in module.modules() if isinstance(layer, torch.nn.Linear)][-1]
        maps = last.weight.T.reshape(-1, SIDE, SIDE)
        last.weight.copy_(40 * (blur @ maps @ blur.T).reshape(24, -1).T)
    return make_generator("smooth", module, "mlp-decoder", config, UNIT)


def small_dcgan(seed: int) -> DCGAN64:
    """A DCGAN-64 of width 4 and 8 latent numbers, with BatchNorm statistics that are not the identity."""
    torch.manual_seed(seed)
    module = DCGAN64(latent=8, width=4)
    with torch.no_grad():
        for layer in module.modules():
            if isinstance(layer, torch.nn.BatchNorm2d):
                layer.running_mean = torch.randn(layer.num_features) * 0.1
                layer.running_var = torch.rand(layer.num_features) * 0.25 + 0.05
                layer.weight.uniform_(0.5, 1.5)
                layer.bias.normal_(0, 0.2)
    return module.eval()


@pytest.fixture
def mlp() -> Generator:
    return small_mlp(1)[0]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    root = tmp_path_factory.mktemp("models")
    return [model_folder(root / f"g{seed}", seed, latent=4, side=12, hidden=8) for seed in range(2)]


@pytest.fixture
def pictures(tmp_path: Path, models: list[Path]) -> Path:
    folder = tmp_path / "pictures"
    (folder / "below").mkdir(parents=True)
    for number in range(4):
        draw(models[number % 2], number, folder / f"{number}.png")
    return folder
