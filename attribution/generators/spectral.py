"""Spectral normalisation folded into plain weights: a generator that is not trained any more needs no singular vectors.

W' = W / sigma with sigma = u^T W v, where u and v are the vectors kept beside the weights. That is what the layer
computes in eval mode, so the folded network makes the same pictures. Three ways of naming them are known: torch's hook
(`weight_orig`, `weight_u`, `weight_v`), torch's parametrization (`parametrizations.weight.original`, `.0._u`, `.0._v`)
and layers that keep `sn_u` alone and do a power iteration on every call. Source: Miyato et al. (2018), Algorithm 1.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn import functional

from ...schemas.errors import SetupError

HOOK = "weight_orig"
PARAMETRIZATION = "parametrizations.weight.original"
OWN = "sn_u"


def fold_spectral_norm(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The state_dict with every normalised weight as the plain `weight` that is used in eval mode.

    `SetupError` if vectors are missing or have other lengths than the weight's axes.
    """
    folded = dict(state)
    for key in state:
        layer, _, last = key.rpartition(".")
        stem = f"{layer}." if layer else ""
        if last == HOOK:
            u, v = f"{stem}weight_u", f"{stem}weight_v"
        elif key.endswith(PARAMETRIZATION):
            stem = key.removesuffix(PARAMETRIZATION)
            u, v = f"{stem}parametrizations.weight.0._u", f"{stem}parametrizations.weight.0._v"
        elif last == OWN:
            weight = _taken(folded, f"{stem}weight", key)
            left = _taken(folded, key, key)
            folded.pop(f"{stem}sn_sigma", None)
            folded[f"{stem}weight"] = _divided(weight, *_power_iteration(weight, left), key)
            continue
        else:
            continue
        weight = _taken(folded, key, key)
        folded[f"{stem}weight"] = _divided(weight, _taken(folded, u, key), _taken(folded, v, key), key)
    return folded


def _taken(state: dict[str, Tensor], name: str, needed_by: str) -> Tensor:
    try:
        return state.pop(name)
    except KeyError:
        raise SetupError(f"the tensor {name!r}, which {needed_by!r} needs, is missing") from None


def _power_iteration(weight: Tensor, u: Tensor) -> tuple[Tensor, Tensor]:
    matrix = weight.flatten(1)
    if u.numel() != len(matrix):
        return u, u
    v = functional.normalize(u.reshape(1, -1) @ matrix)
    return functional.normalize(v @ matrix.T), v


def _divided(weight: Tensor, u: Tensor, v: Tensor, key: str) -> Tensor:
    matrix = weight.flatten(1)
    if u.numel() != matrix.shape[0] or v.numel() != matrix.shape[1]:
        raise SetupError(
            f"{key!r}: its singular vectors have {u.numel()} and {v.numel()} numbers for {list(matrix.shape)}"
        )
    sigma = torch.dot(u.flatten(), torch.mv(matrix, v.flatten()))
    if not float(sigma.abs()) > 0:
        raise SetupError(f"{key!r}: its largest singular value is given as {float(sigma)}")
    return weight / sigma
