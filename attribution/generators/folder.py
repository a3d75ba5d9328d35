"""Model folders: `manifest.json` (JCS), `weights.safetensors`, `calibrations/*.json`. Nothing is ever unpickled.

The digest is recomputed from the tensors at load: a folder whose weights are not those of its manifest, or whose
manifest is not the one expected, does not load. The model file is trusted for nothing else.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import torch
from safetensors import SafetensorError
from safetensors.torch import load as parse_safetensors
from safetensors.torch import save as write_safetensors
from torch import Tensor, nn

from ...ledger.entries.digests import model_digest, model_manifest, tensor_digest
from ...schemas import jcs
from ...schemas.errors import EvidenceError, SetupError, UsageError
from ...schemas.text import digest_text
from .protocol import PRIORS, ROUNDINGS, Generator, LatentSpec, NoisyModule, OutputSpec
from .registry import build

MANIFEST = "manifest.json"
WEIGHTS = "weights.safetensors"
CALIBRATIONS = "calibrations"
MAX_MANIFEST_BYTES = 4 * 1024 * 1024


def tensor_rows(state: Mapping[str, Tensor]) -> list[tuple[str, str, tuple[int, ...], bytes]]:
    """(name, dtype in torch's word, shape, tensor digest) of a state_dict, buffers and ties included."""
    rows: list[tuple[str, str, tuple[int, ...], bytes]] = []
    for name, tensor in state.items():
        flat = tensor.detach().cpu().contiguous()
        data = flat.reshape(-1).view(torch.uint8).numpy().tobytes() if flat.numel() else b""
        dtype = str(flat.dtype).removeprefix("torch.")
        rows.append((name, dtype, tuple(flat.shape), tensor_digest(dtype, tuple(flat.shape), data)))
    return rows


def _specs(name: str, module: nn.Module, manifest: Mapping[str, Any]) -> tuple[LatentSpec, OutputSpec]:
    config = cast("dict[str, Any]", jcs.unwrap_value(manifest["config"]))
    sampling = cast("dict[str, Any]", jcs.unwrap_value(manifest["sampling"]))
    prior = config.get("prior", "normal")
    if prior not in PRIORS:
        raise EvidenceError(f"model {name!r}: prior {prior!r} is none of {', '.join(PRIORS)}")
    rounding = sampling.get("rounding")
    if rounding not in ROUNDINGS:
        raise EvidenceError(f"model {name!r}: rounding {rounding!r} is none of {', '.join(ROUNDINGS)}")
    limits = sampling.get("output_range")
    if (
        not isinstance(limits, list)
        or len(cast("list[object]", limits)) != 2
        or not all(isinstance(x, (int, float)) for x in cast("list[object]", limits))
        or not -1e6 <= limits[0] < limits[1] <= 1e6
    ):
        raise EvidenceError(f"model {name!r}: output_range must be [low, high]")
    low, high = (float(limit) for limit in cast("list[float]", limits))
    _set_sampling(name, module, sampling)
    channels, height, width = cast("tuple[int, int, int]", module.image_shape)
    latent = LatentSpec(int(cast(int, module.latent_dim)), prior)
    return latent, OutputSpec(height, width, channels, low, high, rounding)


def _set_sampling(name: str, module: nn.Module, sampling: Mapping[str, Any]) -> None:
    """Hand psi, cutoff and noise mode to the families that have them; others must not claim any."""
    psi, cutoff, noise_mode = (sampling.get(key) for key in ("psi", "cutoff", "noise_mode"))
    if isinstance(module, NoisyModule):
        try:
            module.set_sampling(psi, cutoff, noise_mode)
        except EvidenceError as error:
            raise EvidenceError(f"model {name!r}: {error}") from None
    elif not (psi is None and cutoff is None and noise_mode is None):
        raise EvidenceError(f"model {name!r}: its architecture has no psi, cutoff or noise mode, its manifest sets one")


def make_generator(
    name: str, module: nn.Module, architecture: str, config: Mapping[str, Any], sampling: Mapping[str, Any]
) -> Generator:
    """A `Generator` of a module in memory; `config` must be the one that `architecture` builds this module from."""
    manifest = model_manifest(architecture, config, sampling, tensor_rows(module.state_dict()))
    latent, output = _specs(name, module, manifest)
    digest = digest_text(model_digest(manifest))
    return Generator(name, module, digest=digest, manifest=manifest, latent=latent, output=output)


def save_model_folder(
    path: Path | str, name: str, module: nn.Module, architecture: str, config: Mapping[str, Any],
    sampling: Mapping[str, Any],
) -> Generator:  # fmt: skip
    """Write a model folder (refusing to overwrite another model's) and return its generator.

    `sampling` = {"output_range": [low, high], "rounding": ...} and, for families that have them, `psi`, `cutoff`,
    `noise_mode`. `UsageError` if the folder already holds another model.
    """
    folder = Path(path)
    generator = make_generator(name, module, architecture, config, sampling)
    target = folder / MANIFEST
    data = jcs.encode(dict(generator.manifest))
    if target.exists() and target.read_bytes() != data:
        raise UsageError(f"{folder} already holds another model")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / CALIBRATIONS).mkdir(exist_ok=True)
    # a copy of each: safetensors refuses tensors that share memory, the manifest lists tied ones under every name
    tensors = {key: value.detach().cpu().contiguous().clone() for key, value in module.state_dict().items()}
    _replace(folder / WEIGHTS, write_safetensors(tensors))
    _replace(target, data)
    return generator


def _replace(path: Path, data: bytes) -> None:
    temporary = path.with_name(path.name + ".new")
    temporary.write_bytes(data)
    temporary.replace(path)


def read_manifest(path: Path | str) -> dict[str, Any]:
    """The manifest of a model folder, canonical and with the four fields; `SetupError` if absent."""
    target = Path(path) / MANIFEST
    try:
        data = target.read_bytes()
    except OSError as error:
        raise SetupError(f"{path} is no model folder: {MANIFEST} cannot be read") from error
    manifest = jcs.decode(data, limit=MAX_MANIFEST_BYTES, what=str(target))
    if not isinstance(manifest, dict) or set(manifest) != {"architecture", "config", "sampling", "tensors"}:
        raise EvidenceError(f"{target} is no model manifest: it needs architecture, config, sampling and tensors alone")
    if not isinstance(manifest["architecture"], str) or not isinstance(manifest["tensors"], list):
        raise EvidenceError(f"{target} is no model manifest: a field has the wrong type")
    for key in ("config", "sampling"):
        if not isinstance(manifest[key], dict):
            raise EvidenceError(f"{target} is no model manifest: {key} must be an object")
    return cast("dict[str, Any]", manifest)


def read_weights(path: Path) -> dict[str, Tensor]:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise SetupError(f"the weights {path} are missing") from error
    if data[:2] in (b"\x80\x02", b"\x80\x04", b"PK"):
        raise EvidenceError(f"{path} is a pickle or torch archive, not safetensors: it is not loaded")
    try:
        return parse_safetensors(data)
    except (SafetensorError, ValueError, KeyError, TypeError, RuntimeError, OverflowError) as error:
        raise EvidenceError(f"{path} is no safetensors file: {str(error)[:120]}") from error


def load_model_folder(path: Path | str, expected_digest: str | None = None, name: str | None = None) -> Generator:
    """The generator of a model folder, its digest recomputed from the tensors and compared.

    `EvidenceError`: the manifest is not canonical, tensors differ from it in name, type, shape or value, weights are
    not finite, the digest is not `expected_digest`. `SetupError`: a file is missing or the architecture unknown.
    """
    folder = Path(path)
    label = name or folder.name
    manifest = read_manifest(folder)
    digest = digest_text(model_digest(manifest))
    if expected_digest is not None and digest != expected_digest:
        raise EvidenceError(f"model {label!r} is {digest}, not the expected {expected_digest}")
    state = read_weights(folder / WEIGHTS)
    for key, tensor in state.items():
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            raise EvidenceError(f"model {label!r}: tensor {key!r} holds NaN or infinity")
    config = cast("dict[str, Any]", jcs.unwrap_value(manifest["config"]))
    sampling = cast("dict[str, Any]", jcs.unwrap_value(manifest["sampling"]))
    try:
        recomputed = model_manifest(manifest["architecture"], config, sampling, tensor_rows(state))
    except UsageError as error:
        raise EvidenceError(f"model {label!r}: {error}") from error
    if digest_text(model_digest(recomputed)) != digest:
        raise EvidenceError(f"model {label!r}: the weights are not those of its manifest")
    module = build(manifest["architecture"], config)
    try:
        module.load_state_dict(state, strict=True)
    except RuntimeError as error:
        detail = str(error).replace("\n", " ")[:200]
        raise EvidenceError(f"model {label!r}: tensors do not fit {manifest['architecture']!r}: {detail}") from error
    latent, output = _specs(label, module, manifest)
    return Generator(label, module, digest=digest, manifest=manifest, latent=latent, output=output)
