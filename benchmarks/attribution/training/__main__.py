"""Train 000's auto-encoder pairs, 004's MNIST GANs as printed (gans) or in minutes (pair), the faces' sibling.

Models are written as model folders: see the package's docstring.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, cast, get_args

import torch
from plausible.attribution.generators import Generator, check_generator, save_model_folder
from plausible.schemas import jcs

from benchmarks.attribution.training import autoencoders, gans, health, pair, sibling
from benchmarks.data import mnist


def main() -> int:
    """Print one line a generator; with --json one document."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=["autoencoders", "gans", "pair", "sibling"])
    parser.add_argument("--out", type=Path, metavar="FOLDER", help="model folders go here")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--steps", type=int, help="fewer than the paper's")
    parser.add_argument("--minutes", type=float, help="pair, sibling: stop after so long and go on another time")
    parser.add_argument("--width", type=int, help="gans: channels of the generator, other than the published")
    parser.add_argument("--paper-rate", action="store_true", help="gans: Adam 0.1, as 004 prints")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu", help="gans: where to train")
    parser.add_argument("--json", type=Path, metavar="FILE")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if options.out is None and options.what not in ("pair", "sibling"):
        parser.error(f"{options.what} needs --out FOLDER")
    rows = {"autoencoders": _autoencoders, "gans": _gans, "pair": _pair, "sibling": _sibling}[options.what](options)
    if options.json is not None:
        options.json.write_text(json.dumps({"trained": rows, "torch": torch.__version__, **_plain(options)}, indent=1))
    return 0


def _plain(options: argparse.Namespace) -> dict[str, Any]:
    return {key: str(value) if isinstance(value, Path) else value for key, value in vars(options).items()}


def _autoencoders(options: argparse.Namespace) -> list[dict[str, Any]]:
    pictures, labels = mnist()
    recipe = autoencoders.Recipe()
    recipe = replace(recipe, steps=options.steps or recipe.steps)
    rows: list[dict[str, Any]] = []
    for name in get_args(autoencoders.Pair):
        both = autoencoders.train_pair(name, pictures, labels, recipe, seed=options.seed)
        for side, trained in zip("ab", both, strict=True):
            rows.append(_saved(trained.generator(f"{name}-{side}"), options.out, {"loss": trained.loss}))
    return rows


def _gans(options: argparse.Namespace) -> list[dict[str, Any]]:
    pictures, _ = mnist()
    rows: list[dict[str, Any]] = []
    for family, usual in (gans.PAPER if options.paper_rate else gans.HEALTHY).items():
        recipe = replace(usual, steps=options.steps or usual.steps, width=options.width)
        trained = gans.train(family, pictures, recipe, seed=options.seed, device=options.device)
        losses = {"generator_loss": trained.generator_loss, "discriminator_loss": trained.discriminator_loss}
        rows.append(_saved(trained.generator, options.out, losses))
    return rows


def _pair(options: argparse.Namespace) -> list[dict[str, Any]]:
    recipe = replace(pair.STEADY, steps=options.steps or pair.STEADY.steps)
    both = pair.train_both(options.seed, recipe, minutes=options.minutes)
    judge = health.judge()
    print(pair.told(f"real digits, unseen (classifier right on {judge.accuracy:.3f})", judge.real), flush=True)
    rows: list[dict[str, Any]] = []
    for family, one in zip(pair.FAMILIES, both, strict=True):
        generator = pair.as_generator(family, one)
        seen = pair.health(generator, judge)
        print(pair.told(f"{family}, {one.step} steps, {one.seconds:.0f} CPU s", seen), *seen.complaints(), flush=True)
        numbers = {"generator_loss": float(one.losses[0]), "discriminator_loss": float(one.losses[1])}
        row = {"name": family, "digest": generator.digest, "steps": one.step, "cpu_seconds": one.seconds, **numbers}
        rows.append({**row, **asdict(seen), "complaints": seen.complaints()})
        if options.out is not None:
            _saved(generator, options.out, numbers)
    return rows


def _sibling(options: argparse.Namespace) -> list[dict[str, Any]]:
    one = sibling.train(options.seed, minutes=options.minutes)
    print(f"sibling: {one.step} of {one.recipe.steps} steps, {one.seconds:.0f} CPU s", flush=True)
    return [{"name": "sibling", "steps": one.step, "cpu_seconds": one.seconds}]


def _saved(generator: Generator, out: Path, numbers: dict[str, float]) -> dict[str, Any]:
    name, manifest = generator.name, generator.manifest
    config, sampling = (cast("dict[str, Any]", jcs.unwrap_value(manifest[key])) for key in ("config", "sampling"))
    save_model_folder(out / name, name, generator.module, manifest["architecture"], config, sampling)
    notes = check_generator(generator)
    print(name, generator.digest, *(f"{key} {value:.5f}" for key, value in numbers.items()), *notes, flush=True)
    return {"name": name, "digest": generator.digest, **numbers, "notes": notes}


if __name__ == "__main__":
    sys.exit(main())
