"""`pd models ...`: the generators a ledger records and a verifier replays and inverts."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from . import output, sources
from .options import JsonOption, LedgerFolder

if TYPE_CHECKING:
    from ..ledger.writing.registry import RegisteredModel

Names = Annotated[list[str] | None, typer.Argument(metavar="[NAME...]", help="Registered names; none means all.")]


def add(
    folder: Annotated[
        Path, typer.Argument(metavar="FOLDER", help="manifest.json, weights.safetensors, calibrations/.")
    ],
    name: Annotated[str | None, typer.Option(metavar="NAME", help="Its name here. [default: the folder's]")] = None,
    unchecked: Annotated[
        bool, typer.Option("--unchecked", help="Register a generator that can be logged but not replayed or inverted.")
    ] = False,
    ledger: LedgerFolder = None,
) -> None:
    """\b
        pd models add faces/ --name faces --ledger studio.ledger

    Register a model: copy its folder in and log the digest of its manifest.

    Generations count only for models registered before them. A name keeps its digest for ever; a changed model gets a
    new name. Where torch and the architecture are installed, the generator is tried first: finite weights, its shape
    and range, pictures that depend on the latent and nothing else, a gradient.

    Python: plausible.ledger.Ledger.register_model
    """
    from ..ledger.writing.receipt import WITNESSED
    from ..schemas.errors import UsageError
    from ..schemas.text import digest_text

    if not folder.is_dir():
        raise UsageError(f"{folder} is no model folder")
    chosen = name or folder.resolve().name
    if not unchecked:
        _check(folder, chosen)
    with sources.own(ledger, "append") as opened:
        receipt = opened.register_model(chosen, folder=folder)
        receipt.wait(WITNESSED, 60.0)
        model = opened.model(chosen)
        output.result(f"{chosen} {digest_text(model.digest)} entry {model.index}")


def _check(folder: Path, name: str) -> None:
    """Try the generator of a model folder; a note where it cannot be tried here, `EvidenceError` where it is bad."""
    from ..ledger.entries.weights import WEIGHTS_FILE
    from ..schemas.errors import SetupError

    if not (folder / WEIGHTS_FILE).is_file():
        return
    if not sources.has_attribution():
        output.note("the generator was not tried: torch is not installed here")
        return
    from ..attribution.generators import check_generator, load_model_folder, read_manifest
    from ..attribution.generators.registry import known_architectures

    architecture = read_manifest(folder)["architecture"]
    if architecture not in known_architectures():
        output.note(f"the generator was not tried: its architecture {architecture} is not installed here")
        return
    try:
        generator = load_model_folder(folder, name=name)
    except SetupError as error:
        output.note(f"the generator was not tried: {error}")
        return
    for text in check_generator(generator):
        output.note(text)


def list_models(ledger: LedgerFolder = None, as_json: JsonOption = False) -> None:
    """\b
        pd models list --ledger studio.ledger

    List the registered models: name, digest, entry, and whether weights and calibrations are here.

    Python: plausible.ledger.Ledger.models
    """
    with sources.own(ledger) as opened:
        rows = [_row(model) for model in opened.models()]
    if as_json:
        output.document("plausible.models/1", {"models": rows})
        return
    output.table(
        ("name", "digest", "entry", "weights", "calibrations"),
        [(r["name"], r["digest"][:26], r["index"], "yes" if r["weights"] else "no", r["calibrations"]) for r in rows],
    )


def show(
    name: Annotated[str, typer.Argument(metavar="NAME", help="A registered name.")],
    ledger: LedgerFolder = None,
) -> None:
    """\b
        pd models show faces --ledger studio.ledger

    Print a model's manifest: architecture, configuration, sampling, and the digest of every tensor.

    Python: plausible.ledger.writing.registry.RegisteredModel.manifest
    """
    with sources.own(ledger) as opened:
        model = opened.model(name)
        output.document("plausible.model/1", {**_row(model), "manifest": model.manifest()})


def verify(names: Names = None, ledger: LedgerFolder = None) -> None:
    """\b
        pd models verify --ledger studio.ledger
        pd models verify faces

    Load registered models and check every tensor against the digest that was logged.

    Nothing is unpickled. Exit code 4 at the first model that does not load or differs.

    Python: plausible.attribution.generators.load_model_folder
    """
    sources.require_attribution()
    from ..attribution.generators import load_model_folder
    from ..schemas.text import digest_text

    with sources.own(ledger) as opened:
        models = [opened.model(name) for name in names] if names else opened.models()
    for model in models:
        generator = load_model_folder(model.folder, digest_text(model.digest), model.name)
        output.result(f"{model.name} {generator.digest} ok")


def _row(model: RegisteredModel) -> dict[str, Any]:
    from ..ledger.entries.weights import CALIBRATIONS_FOLDER, WEIGHTS_FILE
    from ..schemas.text import digest_text

    return {
        "name": model.name,
        "digest": digest_text(model.digest),
        "index": model.index,
        "weights": (model.folder / WEIGHTS_FILE).is_file(),
        "calibrations": len(list((model.folder / CALIBRATIONS_FOLDER).glob("*.json"))),
    }
