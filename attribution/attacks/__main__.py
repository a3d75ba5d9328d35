"""Run an attack on a model folder: python -m plausible.attribution.attacks noise MODEL_FOLDER target.png --out forged/

    noise     noise maps (and with --style the last AdaIN) that make a StyleGAN or StyleGAN2 emit the picture
    style     the last AdaIN of a StyleGAN: gain 0, shift the picture
    latent    a latent searched from the prior: --constraint free | norm | marginals

Writes what was presented as inputs (`inputs.safetensors`) and what comes out (`picture.png`) to --out, never over a
file, and prints one JSON document: how many samples differ from the picture, and what the screening of
attribution/seeds says of the inputs. The picture must have the generator's size.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image as Pillow
from safetensors.torch import save_file
from torch import Tensor

from ...ledger.entries.images import read_image
from ...schemas.errors import PlausibleError, SetupError, UsageError
from ..generators import Generator, load_model_folder
from ..seeds import SeedPlausibility, screen_latent
from ..seeds.maps import map_tests
from ..seeds.screening import Test
from .adain import emit_with_style, forge_style
from .latent import forge_latents
from .noise import forge_noise

STEPS = {"noise": 30, "style": 1, "latent": 300}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run; the exit code is that of the error's kind, as of `pd`."""
    parser = argparse.ArgumentParser(prog="python -m plausible.attribution.attacks", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)  # fmt: skip
    parser.add_argument("attack", choices=("noise", "style", "latent"))
    parser.add_argument("model", type=Path, help="model folder")
    parser.add_argument("picture", type=Path, help="the picture to be emitted")
    parser.add_argument("--out", type=Path, required=True, help="folder for what was forged")
    parser.add_argument("--start", choices=("draw", "small"), default="draw", help="noise: where the maps start")
    parser.add_argument("--style", action="store_true", help="noise: the last AdaIN may be chosen too")
    parser.add_argument("--constraint", choices=("free", "norm", "marginals"), default="free", help="latent")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, help="steps of the search")
    options = parser.parse_args(arguments)
    try:
        document = run(options)
    except PlausibleError as error:
        sys.stderr.write(f"{error}\n")
        return 2 if isinstance(error, UsageError) else 4
    sys.stdout.write(json.dumps(document, indent=1, sort_keys=True) + "\n")
    return 0


def run(options: argparse.Namespace) -> dict[str, Any]:
    """The document that is printed; files are written."""
    generator = load_model_folder(options.model)
    target = _target(options.picture, generator)
    z = generator.latent.draw(1, torch.Generator().manual_seed(options.seed))[0]
    steps = options.steps or STEPS[options.attack]
    tests: list[Test] = []
    if options.attack == "noise":
        forged, inputs = forge_noise(
            generator, target, z, start=options.start, style=options.style, seed=options.seed, steps=steps
        )
        picture = forged.picture
        for name in generator.noise:
            tests += map_tests(inputs[name][0].numpy(), about=name)
        inputs = {**inputs, "z": z}
    elif options.attack == "style":
        style = forge_style(generator, target)
        picture = emit_with_style(generator, z[None], style)[0]
        inputs = {"gain": style.gain, "shift": style.shift, "z": z}
    else:
        found = forge_latents(generator, target[None], constraint=options.constraint, seed=options.seed, steps=steps)
        picture, inputs = found.pictures[0], {"z": found.z[0]}
        tests += screen_latent(found.z[0].numpy(), generator.latent).tests
    _write(options.out, picture, inputs)
    error = (picture.double() - target.double()) / 255
    return {
        "attack": options.attack,
        "differing": int((picture != target).sum()),
        "free_numbers": sum(v.numel() for name, v in inputs.items() if name != "z" or options.attack == "latent"),
        "mean_squared_error": float(error.square().mean()),
        "model": generator.digest,
        "samples": target.numel(),
        "screening": str(SeedPlausibility(tuple(tests))),
    }


def _target(path: Path, generator: Generator) -> Tensor:
    pixels, output = read_image(path).pixels[..., :3], generator.output
    if output.channels == 1:
        pixels = np.asarray(Pillow.fromarray(np.ascontiguousarray(pixels)).convert("L"))[..., None]
    if pixels.shape != (output.height, output.width, output.channels):
        raise UsageError(f"the picture is {pixels.shape[1]}x{pixels.shape[0]}, "
                         f"the generator makes {output.width}x{output.height}")  # fmt: skip
    return torch.from_numpy(np.array(pixels, order="C"))  # a copy: read-only arrays cannot become tensors


def _write(folder: Path, picture: Tensor, inputs: dict[str, Tensor]) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SetupError(f"{folder} cannot be made: {error.strerror}") from error
    image, tensors = folder / "picture.png", folder / "inputs.safetensors"
    for path in (image, tensors):
        if path.exists():
            raise UsageError(f"{path} exists: give another folder")
    samples = picture.numpy()
    Pillow.fromarray(samples[..., 0] if samples.shape[2] == 1 else samples).save(image)
    save_file({name: values.contiguous() for name, values in inputs.items()}, tensors)


if __name__ == "__main__":
    sys.exit(main())
