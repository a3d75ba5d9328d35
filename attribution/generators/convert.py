"""A published checkpoint, given as safetensors, made into a model folder. Nothing is unpickled."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from ...schemas.errors import PlausibleError, SetupError, UsageError
from .check import check_generator
from .folder import make_generator, read_weights, save_model_folder
from .layouts import Converted, Options, convert_state
from .protocol import Generator
from .registry import build
from .styled import StyledGenerator, mean_style

OWN = "own"
"""The layout of a state_dict under the architecture's own names, as `module.state_dict()` gives it."""


def convert_file(
    file: Path | str, folder: Path | str, *, layout: str, name: str | None = None, prefix: str = "",
    options: Options | None = None, sampling: Mapping[str, Any] | None = None, architecture: str | None = None,
    config: Mapping[str, Any] | None = None, estimate_mean: bool = False,
) -> tuple[Generator, tuple[str, ...]]:  # fmt: skip
    """Write the model folder of a safetensors file; the generator, tried by `check_generator`, and its notes.

    `prefix` takes only the tensors whose names begin so (without it), as for `g_ema.`. `sampling` overrides the
    layout's constants one by one. Layout `own` needs `architecture` and `config`, and `sampling` with a range and a
    rounding. `estimate_mean` replaces the mean style by that of 10,000 latents, for checkpoints without one.
    `SetupError`: missing or unknown tensors. `EvidenceError`: no safetensors, or a bad generator; nothing is written
    then.
    """
    state = read_weights(Path(file))
    if prefix:
        state = {key.removeprefix(prefix): tensor for key, tensor in state.items() if key.startswith(prefix)}
        if not state:
            raise SetupError(f"no tensor in {file} has a name that begins with {prefix!r}")
    if layout == OWN:
        if architecture is None:
            raise UsageError("the layout 'own' needs the name of an architecture")
        converted = Converted(architecture, dict(config or {}), state)
    elif architecture is not None or config is not None:
        raise UsageError(f"the layout {layout!r} knows its architecture and reads the configuration from the tensors")
    else:
        converted = convert_state(state, layout, options)
    constants = {**converted.sampling, **(sampling or {})}
    module = build(converted.architecture, converted.config)
    _load(module, converted.state, converted.architecture)
    if estimate_mean:
        if not isinstance(module, StyledGenerator):
            raise UsageError(f"{converted.architecture!r} has no mean style")
        module.w_mean.copy_(mean_style(module))
    elif constants.get("psi") is not None and "w_mean" in converted.state and not bool(converted.state["w_mean"].any()):
        raise SetupError(f"{file} has no mean style to truncate towards: have it estimated, or convert it without psi")
    label = name or Path(folder).resolve().name
    trial = make_generator(label, module, converted.architecture, converted.config, constants)
    notes = check_generator(trial)
    return save_model_folder(folder, label, module, converted.architecture, converted.config, constants), notes


def _load(module: Any, state: Mapping[str, Tensor], architecture: str) -> None:
    expected = {key: tensor.shape for key, tensor in module.state_dict().items()}
    missing, unknown = sorted(set(expected) - set(state)), sorted(set(state) - set(expected))
    if missing:
        raise SetupError(f"the tensor {missing[0]!r} of {architecture!r} is missing ({len(missing)} in all)")
    if unknown:
        raise SetupError(f"{architecture!r} has no tensor {unknown[0]!r} ({len(unknown)} unknown in all)")
    for key, shape in expected.items():
        if state[key].shape != shape:
            raise SetupError(f"the tensor {key!r} is {list(state[key].shape)}, {architecture!r} needs {list(shape)}")
    try:
        module.load_state_dict(dict(state), strict=True)
    except (PlausibleError, RuntimeError) as error:
        raise SetupError(f"the tensors do not fit {architecture!r}: {' '.join(str(error).split())[:200]}") from error
