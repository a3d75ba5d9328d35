"""Inception-V3 up to Mixed_5d: the feature map of 004's distance, from any state dict with torchvision's names.

Input: pictures [B, 3, H, W] in [0, 1], resized to 299 x 299 (bilinear, no antialiasing) and moved to [-1, 1]; output
[B, 288, 35, 35]. BatchNorm epsilon 1e-3; average pooling counts its padding unless told otherwise. Source: Szegedy et
al., "Rethinking the Inception Architecture", figure 5; 004 section IV.
"""

from __future__ import annotations

import hashlib
import pickle
from pathlib import Path
from typing import cast

import torch
from safetensors import SafetensorError
from safetensors.torch import load as parse_safetensors
from torch import Tensor, nn
from torch.nn import functional

from ...schemas.errors import EvidenceError, SetupError

SIZE = 299
EPSILON = 1e-3
_MALFORMED = (
    KeyError, ValueError, TypeError, RuntimeError, AttributeError, OSError, EOFError, pickle.UnpicklingError,
    SafetensorError,
)  # fmt: skip


class _Conv(nn.Module):
    """Convolution without bias, BatchNorm, ReLU."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int = 1, padding: int = 0) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride, padding, bias=False)
        self.bn = nn.BatchNorm2d(outputs, eps=EPSILON)

    def forward(self, x: Tensor) -> Tensor:
        return functional.relu(self.bn(self.conv(x)))


class _Mixed5(nn.Module):
    """The 35 x 35 block: 1x1, 5x5, double 3x3 and pooled branches, concatenated."""

    def __init__(self, inputs: int, pool: int, count_padding: bool) -> None:
        super().__init__()
        self.branch1x1 = _Conv(inputs, 64, 1)
        self.branch5x5_1 = _Conv(inputs, 48, 1)
        self.branch5x5_2 = _Conv(48, 64, 5, padding=2)
        self.branch3x3dbl_1 = _Conv(inputs, 64, 1)
        self.branch3x3dbl_2 = _Conv(64, 96, 3, padding=1)
        self.branch3x3dbl_3 = _Conv(96, 96, 3, padding=1)
        self.branch_pool = _Conv(inputs, pool, 1)
        self._count_padding = count_padding

    def forward(self, x: Tensor) -> Tensor:
        five = self.branch5x5_2(self.branch5x5_1(x))
        three = self.branch3x3dbl_3(self.branch3x3dbl_2(self.branch3x3dbl_1(x)))
        pooled = self.branch_pool(functional.avg_pool2d(x, 3, 1, 1, count_include_pad=self._count_padding))
        return torch.cat([self.branch1x1(x), five, three, pooled], dim=1)


class InceptionFeatures(nn.Module):
    """Mixed_5d maps of pictures in [0, 1]; frozen, float32."""

    digest: str

    def __init__(self, *, count_padding: bool = True) -> None:
        super().__init__()
        self.Conv2d_1a_3x3 = _Conv(3, 32, 3, stride=2)
        self.Conv2d_2a_3x3 = _Conv(32, 32, 3)
        self.Conv2d_2b_3x3 = _Conv(32, 64, 3, padding=1)
        self.Conv2d_3b_1x1 = _Conv(64, 80, 1)
        self.Conv2d_4a_3x3 = _Conv(80, 192, 3)
        self.Mixed_5b = _Mixed5(192, 32, count_padding)
        self.Mixed_5c = _Mixed5(256, 64, count_padding)
        self.Mixed_5d = _Mixed5(288, 64, count_padding)
        self.digest = ""

    def forward(self, images: Tensor) -> Tensor:
        if images.shape[1] == 1:
            images = images.expand(-1, 3, -1, -1)
        x = functional.interpolate(images, (SIZE, SIZE), mode="bilinear", align_corners=False, antialias=False) * 2 - 1
        x = self.Conv2d_2b_3x3(self.Conv2d_2a_3x3(self.Conv2d_1a_3x3(x)))
        x = self.Conv2d_4a_3x3(self.Conv2d_3b_1x1(functional.max_pool2d(x, 3, 2)))
        x = functional.max_pool2d(x, 3, 2)
        return self.Mixed_5d(self.Mixed_5c(self.Mixed_5b(x)))

    @classmethod
    def load(cls, path: Path | str, *, count_padding: bool = True) -> InceptionFeatures:
        """From safetensors, or a torch file read with `weights_only`; tensors beyond Mixed_5d are ignored.

        `SetupError` if the file is missing, `EvidenceError` if it is not such a state dict.
        """
        source = Path(path)
        try:
            data = source.read_bytes()
        except OSError as error:
            raise SetupError(f"the Inception weights {source} cannot be read") from error
        try:
            if source.suffix == ".safetensors":
                state = parse_safetensors(data)
            else:
                state = cast("dict[str, Tensor]", torch.load(source, map_location="cpu", weights_only=True))
            model = cls(count_padding=count_padding)
            wanted = model.state_dict()
            picked = {name: state[name].float() for name in wanted if not name.endswith("num_batches_tracked")}
            model.load_state_dict(picked, strict=False)
        except _MALFORMED as error:
            raise EvidenceError(f"{source} holds no Inception-V3 up to Mixed_5d: {str(error)[:160]}") from error
        model.digest = "sha256:" + hashlib.sha256(data).hexdigest()
        return model.eval().requires_grad_(False)
