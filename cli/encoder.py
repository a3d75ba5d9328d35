"""`pd models train-encoder`: an encoder of a generator, from its own pictures, as a first start of inversions."""

from __future__ import annotations

from typing import Annotated

import typer

from . import output, sources, strength
from .options import ForceOption, LedgerFolder


def train_encoder(
    which: Annotated[str, typer.Argument(metavar="NAME|FOLDER", help="A registered name, or a model folder.")],
    ledger: LedgerFolder = None,
    steps: Annotated[int, typer.Option(min=1, help="Batches of fresh pictures.")] = 2000,
    batch: Annotated[int, typer.Option(min=1, help="Pictures a batch.")] = 32,
    seed: Annotated[int, typer.Option(min=0, help="Where its pictures come from.")] = 0,
    force: ForceOption = False,
) -> None:
    """\b
        pd models train-encoder faces --ledger studio.ledger

    Train an encoder on the generator's own fresh pictures and keep it beside the weights (encoder.safetensors).

    It gives inversions a first start near the latent, where `pd attribute --encoder` asks for it. Limits that were
    calibrated without it do not count then: the engine's name carries the encoder's digest.

    Python: plausible.attribution.inversion.encoder.train_encoder
    """
    sources.require_attribution()
    from ..attribution.inversion.encoder import train_encoder as train

    folder = strength.model_folder(which, ledger)
    with output.progress("training", steps) as advance:
        made = train(folder, steps=steps, batch=batch, seed=seed, force=force, progress=lambda _d, _t: advance(1))
    output.result(
        f"encoder {made.digest}: mean squared error {made.held_out_error:.3f} a latent number on fresh pictures"
    )
