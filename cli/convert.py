"""`pd models convert`: a published checkpoint, given as safetensors, made into a model folder."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, cast

import typer

from . import output, sources

MAX_CONFIG = 1 << 20


class Fused(StrEnum):
    """How ProGAN and StyleGAN checkpoints double their maps."""

    AUTO = "auto"
    ALWAYS = "always"
    NEVER = "never"


class Rounding(StrEnum):
    """How 8 bits are made of the output; the names of the manifest."""

    HALF_UP = "mul255_add0.5_floor"
    TRUNCATED = "mul127.5_add128_trunc"
    HALF_EVEN = "round_half_even_255"


class NoiseMode(StrEnum):
    """Whether the noise maps stored beside the weights are used."""

    CONST = "const"
    NONE = "none"


def convert(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The checkpoint's tensors as safetensors.")],
    out: Annotated[Path, typer.Option("--out", metavar="FOLDER", help="The model folder to write.")],
    layout: Annotated[
        str, typer.Option(metavar="LAYOUT", help="Whose names the tensors have; see docs/generators.md.")
    ],
    name: Annotated[str | None, typer.Option(metavar="NAME", help="Its name. [default: the folder's]")] = None,
    prefix: Annotated[str, typer.Option(metavar="TEXT", help="Only tensors whose names begin so, as g_ema.")] = "",
    psi: Annotated[float | None, typer.Option(min=0, max=1, help="Truncation towards the mean style.")] = None,
    cutoff: Annotated[int | None, typer.Option(min=0, help="Layers that are truncated. [default: all]")] = None,
    estimate_mean: Annotated[
        bool, typer.Option("--estimate-mean", help="Take the mean style from 10,000 latents; the file has none.")
    ] = False,
    noise_mode: Annotated[NoiseMode | None, typer.Option(help="Stored noise maps or none.")] = None,
    rounding: Annotated[Rounding | None, typer.Option(help="How 8 bits are made of the output.")] = None,
    low: Annotated[float | None, typer.Option(help="Raw output that is black.")] = None,
    high: Annotated[float | None, typer.Option(help="Raw output that is white.")] = None,
    label: Annotated[int | None, typer.Option(min=0, help="The class of a conditional network.")] = None,
    attention: Annotated[int | None, typer.Option(min=1, help="The block that self-attention follows.")] = None,
    fused: Annotated[Fused, typer.Option(help="Whether maps are doubled by transposed convolutions.")] = Fused.AUTO,
    tanh: Annotated[bool, typer.Option("--tanh", help="The network ends in a tanh.")] = False,
    architecture: Annotated[
        str | None, typer.Option(metavar="NAME", help="With --layout own: the architecture whose names these are.")
    ] = None,
    config: Annotated[
        Path | None, typer.Option(metavar="FILE", help="With --layout own: its configuration, a JSON object.")
    ] = None,
) -> None:
    """\b
        pd models convert g.safetensors --layout rosinality-stylegan2 --prefix g_ema. --psi 0.7 --out faces/

    Make a model folder of a published generator, and try it.

    Nothing is unpickled: what was published as a pickle must be rewritten as safetensors first, by somebody who trusts
    it. A tensor that is missing, of another shape or not part of such a checkpoint ends it (exit code 4).

    Python: plausible.attribution.generators.convert.convert_file
    """
    sources.require_attribution()
    from ..attribution.generators.convert import convert_file
    from ..attribution.generators.layouts import Options
    from ..schemas.errors import UsageError

    if (low is None) != (high is None):
        raise UsageError("--low and --high go together")
    given: dict[str, Any] = {
        "psi": psi, "cutoff": cutoff, "noise_mode": noise_mode and noise_mode.value,
        "rounding": rounding and rounding.value, "output_range": None if low is None else [low, high],
    }  # fmt: skip
    generator, notes = convert_file(
        file, out, layout=layout, name=name, prefix=prefix, architecture=architecture,
        config=_config(config), estimate_mean=estimate_mean,
        options=Options(label=label, fused=fused.value, attention=attention, tanh=tanh),
        sampling={key: value for key, value in given.items() if value is not None},
    )  # fmt: skip
    for text in notes:
        output.note(text)
    output.result(f"{generator.name} {generator.digest} {generator.manifest['architecture']}")


def _config(path: Path | None) -> dict[str, Any] | None:
    import json

    from ..schemas.errors import EvidenceError

    if path is None:
        return None
    data = sources.read_bytes(path, "the configuration", MAX_CONFIG)
    try:
        value: object = json.loads(data)
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise EvidenceError(f"{path} is no JSON object")
    return cast("dict[str, Any]", value)
