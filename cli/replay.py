"""`pd replay`: run the recorded call again and compare."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from . import output, settings, sources
from .options import ForceOption, JsonOption, LedgerFolder

if TYPE_CHECKING:
    from ..attribution.generators import Generator
    from ..ledger.entries.entry import Entry
    from ..ledger.entries.record import OpenedRecord

_CODES = {"exact": 0, "tolerance": 0, "different": 3, "contradicts": 1}


def replay(
    image: Annotated[Path, typer.Argument(metavar="IMAGE", help="The picture.")],
    ledger: LedgerFolder = None,
    evidence: Annotated[
        Path | None,
        typer.Option("--evidence", metavar="FILE", help="A tlog-proof, its opening beside it, instead of a ledger."),
    ] = None,
    models: Annotated[
        list[Path] | None, typer.Option("--models", metavar="FOLDER", help="A model folder; repeatable. [PD_MODELS]")
    ] = None,
    device: Annotated[str | None, typer.Option(help="Where it runs: cpu, cuda, cuda:1, mps. [PD_DEVICE]")] = None,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="FILE", help="Write the replayed picture as PNG.")
    ] = None,
    as_json: JsonOption = False,
    force: ForceOption = False,
) -> None:
    """\b
        pd replay face.png --ledger studio.ledger
        pd replay face.png --evidence face.png.tlog-proof --models faces/

    Run the recorded call again, from seed to picture, and compare sample by sample.

    Exit code 0 if the picture comes out (exactly, or within a tolerance that counts), 3 if another one does, 1 if it
    contradicts the entry under the record's own environment, 4 if it cannot be replayed here. Signatures and the log
    are not checked: `pd verify` does that.

    Python: plausible.attribution.replay.records.replay
    """
    import io

    sources.require_attribution()
    from ..attribution.replay.records import replay as run
    from ..ledger.entries.images import read_image

    picture = read_image(image)
    entry, opened, folders = _record(image, ledger, evidence)
    generator = _generator(opened, [*folders, *(models or _models())])
    found = run(opened, generator, picture.pixels, device=str(settings.get("device", device)))
    if out is not None:
        import PIL.Image

        buffer = io.BytesIO()
        PIL.Image.fromarray(found.pixels).save(buffer, "PNG")
        output.write_file(out, buffer.getvalue(), force=force)
    if as_json:
        body = {
            "image": str(image),
            "author": entry.author.name,
            "model": opened.context.model,
            "state": found.state,
            "samples": found.samples,
            "levels": found.levels,
            "total": found.total,
            "reproduces_entry": found.reproduces_entry,
            "device": found.device,
            "differing": list(found.differing),
        }
        output.document("plausible.replay/1", body)
    else:
        output.result(f"{image}: {found.state}: {found}")
    raise typer.Exit(_CODES[found.state])


def _record(image: Path, ledger: str | None, evidence: Path | None) -> tuple[Entry, OpenedRecord, list[Path]]:
    """The entry about the image, its opened record, and the model folders that came with it."""
    from ..ledger.entries.entry import parse_entry
    from ..ledger.entries.record import verify_opening
    from ..schemas.record import REPLAY_FIELDS

    if evidence is None:
        with sources.own(ledger) as opened:
            index, _ = sources.index_of(opened, str(image))
            entry = parse_entry(opened.entry(index))
            opening = opened.opening(index, (*REPLAY_FIELDS, "tolerance"))
            return entry, verify_opening(opening, entry), [model.folder for model in opened.models()]
    from ..attribution.logs.sources import read_evidence
    from ..ledger.notes.proof import TlogProof
    from ..schemas.errors import EvidenceError, UsageError

    [files] = read_evidence([evidence])
    proof = TlogProof.parse(files.proof)
    if proof.extra is None:
        raise EvidenceError(f"{files.name} brings no entry (it has no extra line)")
    if files.opening is None:
        raise UsageError(f"there is no opening beside {evidence}: a replay needs the record")
    entry = parse_entry(proof.extra)
    return entry, verify_opening(files.opening, entry), []


def _models() -> list[Path]:
    """The model folders below the folder that the settings name."""
    where = settings.get("models")
    return [] if where is None else sorted(path.parent for path in Path(where).glob("*/manifest.json"))


def _generator(opened: OpenedRecord, folders: list[Path]) -> Generator:
    from ..attribution.generators import load_model_folder, read_manifest
    from ..ledger.entries.digests import model_digest
    from ..schemas.errors import SetupError
    from ..schemas.text import digest_text

    for folder in folders:
        if digest_text(model_digest(read_manifest(folder))) == opened.context.model:
            return load_model_folder(folder, opened.context.model)
    raise SetupError(f"no model folder given is the recorded model {opened.context.model}: name it with --models")
