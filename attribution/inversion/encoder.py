"""An encoder of one generator: from a picture to a latent near its own, as the first start of a search.

Trained on nothing but the generator's own fresh pictures, as published: pairs (picture of z, z). It is kept beside the
weights as `encoder.safetensors` and `encoder.json`, which names the generator, the configuration, the training and the
digest of every tensor; nothing is unpickled, and a file that differs in anything is refused. An encoder is trusted for
nothing: a start is searched from like any other, and whatever is reported is recomputed by the generator. But it moves
where searches end, so it is used only where asked for, and its digest is part of the engine's name, by which
calibrations are keyed (method.py). Source: Zhu et al. (2016), section 3.2, for an encoder trained on own samples.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import save as write_safetensors
from torch import Tensor, nn

from ...schemas import jcs
from ...schemas.errors import EvidenceError, SetupError, UsageError
from ...schemas.text import digest_text
from ..generators.folder import load_model_folder, read_weights, tensor_rows
from ..generators.protocol import Generator

WEIGHTS, MANIFEST = "encoder.safetensors", "encoder.json"
FORMAT = "plausible.encoder/1"
MAX_BYTES = 1 << 20
FIELDS = {"config", "format", "held_out_error", "model", "tensors", "training"}
HELD_OUT = 64
WIDEST = 128


class Encoder(nn.Module):
    """Pictures [B, C, H, W] on [0, 1] to latents [B, latent]: convolutions of stride 2 down to 4x4, then one matrix."""

    def __init__(self, channels: int, height: int, width: int, latent: int, base: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        inputs, outputs = channels, base
        while min(height, width) > 4:
            layers += [nn.Conv2d(inputs, outputs, 3, 2, 1), nn.LeakyReLU(0.2)]
            height, width = (height + 1) // 2, (width + 1) // 2
            inputs, outputs = outputs, min(2 * outputs, WIDEST)
        self.body = nn.Sequential(*layers, nn.Flatten())
        self.head = nn.Linear(inputs * height * width, latent)

    def forward(self, pictures: Tensor) -> Tensor:
        return self.head(self.body(pictures * 2 - 1))


@dataclass(frozen=True, slots=True)
class LoadedEncoder:
    """An encoder of the generator whose digest it names."""

    module: Encoder
    digest: str
    """`sha256:...` of its manifest, which covers every tensor."""
    held_out_error: float
    """Mean squared error of a latent number on fresh pictures; 1 is what guessing the mean gives, for unit latents."""

    @torch.no_grad()
    def starts(self, pixels: NDArray[np.uint8], generator: Generator) -> Tensor:
        """[1, d]: where to begin for a picture, uint8 [H, W, C], on the support of the prior."""
        picture = torch.from_numpy(np.array(pixels)).permute(2, 0, 1)[None].float() / 255
        return generator.latent.project(self.module(picture))


def train_encoder(
    folder: Path | str,
    *,
    steps: int = 2000,
    batch: int = 32,
    rate: float = 1e-3,
    base: int = 32,
    seed: int = 0,
    force: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> LoadedEncoder:
    """Train an encoder of a model folder's generator and write it beside the weights.

    The same arguments, machine and torch give the same encoder. `UsageError` if there is one already and not `force`.
    """
    target = Path(folder)
    if (target / MANIFEST).exists() and not force:
        raise UsageError(f"{target} has an encoder already; --force makes another one")
    if min(steps, batch) < 1 or not rate > 0 or not 1 <= base <= WIDEST:
        raise UsageError(f"training needs steps, a batch and a rate above 0, and a base of 1 to {WIDEST}")
    generator = load_model_folder(target)
    output = generator.output
    config = {
        "base": base,
        "channels": output.channels,
        "height": output.height,
        "latent": generator.latent.dim,
        "width": output.width,
    }
    module = _trained(generator, config, steps, batch, rate, seed, progress)
    state = {key: value.contiguous() for key, value in module.state_dict().items()}
    document = {
        "config": config,
        "format": FORMAT,
        "held_out_error": jcs.wrap_number(_held_out(module, generator, seed)),
        "model": generator.digest,
        "tensors": _rows(state),
        "training": {"batch": batch, "rate": jcs.wrap_number(rate), "seed": seed, "steps": steps},
    }
    # the manifest last: without it there is no encoder
    for name, data in ((WEIGHTS, write_safetensors(state)), (MANIFEST, jcs.encode(cast("Any", document)))):
        temporary = target / (name + ".new")
        temporary.write_bytes(data)
        temporary.replace(target / name)
    found = load_encoder(target, generator)
    assert found is not None  # noqa: S101 - written just now
    return found


def load_encoder(folder: Path | str, generator: Generator) -> LoadedEncoder | None:
    """The encoder in a model folder, None if there is none; `EvidenceError` if anything differs from its manifest."""
    path = Path(folder) / MANIFEST
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise SetupError(f"{path} cannot be read") from error
    document = jcs.decode(data, limit=MAX_BYTES, what=str(path))
    if not isinstance(document, dict) or set(document) != FIELDS or document["format"] != FORMAT:
        raise EvidenceError(f"{path} is no {FORMAT}")
    if document["model"] != generator.digest:
        raise EvidenceError(f"{path} is the encoder of another model")
    output = generator.output
    sizes = {
        "channels": output.channels, "height": output.height, "latent": generator.latent.dim, "width": output.width,
    }  # fmt: skip
    config = document["config"]
    base: object = cast("dict[str, object]", config).get("base") if isinstance(config, dict) else None
    if (
        isinstance(base, bool)
        or not isinstance(base, int)
        or not 1 <= base <= WIDEST
        or config != {**sizes, "base": base}
    ):
        raise EvidenceError(f"the configuration in {path} is not this generator's")
    state = read_weights(Path(folder) / WEIGHTS)
    if _rows(state) != document["tensors"]:
        raise EvidenceError(f"the tensors of {WEIGHTS} are not those of its manifest")
    if not all(bool(torch.isfinite(tensor).all()) for tensor in state.values()):
        raise EvidenceError(f"{path.with_name(WEIGHTS)} holds NaN or infinity")
    error = jcs.unwrap_number(document["held_out_error"])
    module = Encoder(**sizes, base=base)
    try:
        module.load_state_dict(state, strict=True)
    except RuntimeError as wrong:
        raise EvidenceError(f"the tensors of {WEIGHTS} do not fit its configuration") from wrong
    return LoadedEncoder(
        module.eval().requires_grad_(False), digest_text(hashlib.sha256(data).digest()), float(error)
    )  # fmt: skip


def _rows(state: dict[str, Tensor]) -> list[dict[str, Any]]:
    return [
        {"digest": digest_text(digest), "dtype": dtype, "name": name, "shape": list(shape)}
        for name, dtype, shape, digest in sorted(tensor_rows(state))
    ]


def _pairs(generator: Generator, count: int, rng: torch.Generator) -> tuple[Tensor, Tensor]:
    """(pictures [B, C, H, W] on [0, 1] as published, their latents [B, d])."""
    z = generator.latent.draw(count, rng)
    return generator.sample(z).permute(0, 3, 1, 2).float() / 255, z


def _trained(
    generator: Generator, config: dict[str, int], steps: int, batch: int, rate: float, seed: int,
    progress: Callable[[int, int], None] | None,
) -> Encoder:  # fmt: skip
    rng = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        module = Encoder(**config)
    optimiser = torch.optim.Adam(module.parameters(), lr=rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    for step in range(steps):
        pictures, z = _pairs(generator, batch, rng)
        optimiser.zero_grad()
        (module(pictures) - z).square().mean().backward()
        optimiser.step()
        schedule.step()
        if progress is not None:
            progress(step + 1, steps)
    return module.eval()


@torch.no_grad()
def _held_out(module: Encoder, generator: Generator, seed: int) -> float:
    pictures, z = _pairs(generator, HELD_OUT, torch.Generator().manual_seed(seed + 1_000_003))
    return float((generator.latent.project(module(pictures)) - z).square().mean())
