"""000's auto-encoders, trained once: kept under .cache/autoencoders by the digest of all that determines them.

A repeated or interrupted experiment trains only what is missing. `python -m benchmarks.attribution.training.cached`
trains the networks of the first repetitions ahead: one line each, with the seconds it took.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from typing import get_args

import torch
from safetensors import safe_open
from safetensors.torch import save_file

from benchmarks.attribution.training import autoencoders
from benchmarks.attribution.training.autoencoders import AutoEncoder, Pair, Pixels, Recipe
from benchmarks.data import CACHE
from benchmarks.digits import digits

FOLDER = CACHE.parent / "autoencoders"


def autoencoder(
    pictures: Pixels, recipe: Recipe, *, order_seed: int, init_seed: int, say: Callable[[str], None] | None = None
) -> AutoEncoder:
    """The auto-encoder of these pictures, recipe and seeds: read, or trained and kept; deterministic either way."""
    told = {
        "pictures": hashlib.sha256(pictures.tobytes()).hexdigest(), "shape": pictures.shape, "recipe": asdict(recipe),
        "order": order_seed, "init": init_seed, "torch": torch.__version__.split("+")[0],
    }  # fmt: skip
    key = hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()
    path = FOLDER / f"{key[:32]}.safetensors"
    if not path.is_file():
        began = time.monotonic()
        trained = autoencoders.train(pictures, recipe, order_seed=order_seed, init_seed=init_seed)
        state = {
            f"{half}.{name}": tensor.contiguous()
            for half, module in (("encoder", trained.encoder), ("decoder", trained.decoder))
            for name, tensor in module.state_dict().items()
        }
        FOLDER.mkdir(parents=True, exist_ok=True)
        temporary = path.with_suffix(".new")
        save_file(state, temporary, metadata={"loss": repr(trained.loss), "told": json.dumps(told)})
        temporary.replace(path)
        if say is not None:
            seconds = time.monotonic() - began
            say(f"trained order {order_seed}, init {init_seed}: {recipe.steps} steps in {seconds:.0f} s")
    with torch.random.fork_rng(devices=[]):
        encoder, decoder = autoencoders.fresh_halves(recipe, *pictures.shape[1:])
    with safe_open(path, "pt") as file:
        loss = float(file.metadata()["loss"])
        state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no mapping
    for half, module in (("encoder", encoder), ("decoder", decoder)):
        module.load_state_dict({k.removeprefix(f"{half}."): v for k, v in state.items() if k.startswith(f"{half}.")})
        module.eval().requires_grad_(False)
    return AutoEncoder(encoder, decoder, loss, recipe)


def pair(
    kind: Pair, *, seed: int, recipe: Recipe | None = None, say: Callable[[str], None] | None = None
) -> tuple[AutoEncoder, AutoEncoder]:
    """The two auto-encoders of repetition `seed` of E1 (`parity`), E2 (`order`) or E3 (`init`) on the real digits."""
    found = digits()
    first, second = (
        autoencoder(data, recipe or Recipe(), order_seed=order, init_seed=init, say=say)
        for data, order, init in autoencoders.plan_pair(kind, found.train, found.train_labels, seed=seed)
    )
    return first, second


def main() -> None:
    """Train what is missing of the pairs of repetitions 1 to --seeds."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=Recipe().steps)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    for seed in range(1, options.seeds + 1):
        for kind in get_args(Pair):
            both = pair(kind, seed=seed, recipe=replace(Recipe(), steps=options.steps), say=print)
            print(kind, seed, *(f"loss {one.loss:.5f}" for one in both), flush=True)


if __name__ == "__main__":
    main()
