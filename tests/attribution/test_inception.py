"""004's feature distance on real weights, where they are present; the loader's refusals everywhere."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from plausible.attribution.distances.images import L2, L2Feature
from plausible.attribution.distances.inception import InceptionFeatures
from plausible.schemas.errors import EvidenceError, SetupError
from safetensors.torch import save_file

from ..conftest import SHARED


def test_l2_is_the_mean_squared_error() -> None:
    probe = torch.zeros(1, 3, 4, 4)
    images = torch.stack([torch.full((3, 4, 4), 0.5), torch.zeros(3, 4, 4)])
    assert L2().between(images, L2().prepare(probe)).tolist() == [0.25, 0.0]


def test_feature_distance_sees_through_size_and_grows_with_change() -> None:
    path = SHARED / "weights" / "inception_v3_mixed5d.safetensors"
    if not path.is_file():
        pytest.skip(f"Inception weights {path} are absent; set PLAUSIBLE_SHARED to the folder that holds weights/")
    features = InceptionFeatures.load(path, count_padding=False)
    distance = L2Feature(features)
    rng = torch.Generator().manual_seed(0)
    smooth = torch.nn.functional.interpolate(torch.rand(2, 3, 6, 6, generator=rng), (64, 64), mode="bicubic").clamp(
        0, 1
    )
    prepared = distance.prepare(smooth[:1])
    assert prepared.shape == (1, 288 * 35 * 35)
    noisy = [(smooth[:1] + sigma * torch.randn(1, 3, 64, 64, generator=rng)).clamp(0, 1) for sigma in (0.02, 0.05)]
    same, near, far, other = (float(distance.between(x, prepared)) for x in (smooth[:1], *noisy, smooth[1:]))
    assert same < 1e-3 < near < far
    assert far < other


@pytest.mark.parametrize("name", ["a.safetensors", "a.pt"])
def test_other_files_are_refused(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    with pytest.raises(SetupError):
        InceptionFeatures.load(path)
    path.write_bytes(b"nothing of the kind")
    with pytest.raises(EvidenceError):
        InceptionFeatures.load(path)
    save_file({"Conv2d_1a_3x3.conv.weight": torch.zeros(1)}, tmp_path / "b.safetensors")
    with pytest.raises(EvidenceError, match="Mixed_5d"):
        InceptionFeatures.load(tmp_path / "b.safetensors")
