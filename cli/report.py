"""`pd report`: render a report as one HTML file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from . import output, sources
from .options import ForceOption

if TYPE_CHECKING:
    from ..schemas.report import ReportDocument


@dataclass(frozen=True, slots=True)
class FoundReport:
    """A report as read from a file: `signed` tells whether it came in an auditor's envelope, whose signature holds."""

    document: ReportDocument
    data: bytes
    signed: bool


def report(
    source: Annotated[Path, typer.Argument(metavar="REPORT", help="A report: JSON, or the auditor's signed envelope.")],
    out: Annotated[
        Path | None, typer.Option("--out", metavar="FILE", help="The page. [default: REPORT with .html]")
    ] = None,
    image: Annotated[
        Path | None, typer.Option("--image", metavar="FILE", help="The picture it is about, to show it on the page.")
    ] = None,
    auditor: Annotated[
        str | None, typer.Option("--auditor", metavar="VKEY", help="The only key a signature may be by.")
    ] = None,
    force: ForceOption = False,
) -> None:
    """\b
        pd report face.report.json --out face.html
        pd report face.report.json --image face.png --auditor auditor.example+...

    Render a report as one HTML file: no scripts, nothing fetched from elsewhere.

    A signed report's signature is checked, by --auditor's key if given, else by the key the report itself names.

    Python: plausible.attribution.report.document.render
    """
    from ..attribution.report.document import render
    from ..attribution.report.pictures import Figure
    from ..ledger.entries.images import read_image
    from ..schemas.errors import EvidenceError
    from ..schemas.text import digest_text

    found = read_report(source, auditor)
    figures: list[Figure] = []
    if image is not None:
        picture = read_image(image)
        if digest_text(picture.pixel_digest) != found.document.image.pixels:
            raise EvidenceError(f"{image} is not the picture that {source} is about: its pixels have another digest")
        figures.append(Figure("The picture", image.name, picture.pixels))
    target = out or source.with_suffix(".html")
    output.write_file(target, render(found.document, figures).encode(), force=force)
    output.note(f"wrote {target}")


def read_report(path: Path, auditor: str | None = None) -> FoundReport:
    """A report document or signed envelope. `EvidenceError` if malformed, or if its signature does not hold."""
    from ..attribution.report.document import MAX_REPORT_BYTES, open_report
    from ..ledger.notes.dsse import Envelope
    from ..ledger.notes.note import VerifierKey
    from ..schemas.errors import EvidenceError
    from ..schemas.report import ReportDocument

    data = sources.read_bytes(path, "the report", 2 * MAX_REPORT_BYTES)
    # `--json` and editors end a file with a newline; the canonical bytes have none
    data = data.removesuffix(b"\n")
    if not data.startswith(b'{"payload"'):
        if auditor is not None:
            raise EvidenceError(f"{path} is not signed, so nothing shows that {auditor.split('+')[0]} made it")
        return FoundReport(ReportDocument.parse(data, limit=MAX_REPORT_BYTES, what="report"), data, False)
    if auditor is not None:
        return FoundReport(open_report(data, VerifierKey.parse(auditor)), data, True)
    payload = Envelope.parse(data, limit=2 * MAX_REPORT_BYTES).payload
    named = ReportDocument.parse(payload, limit=MAX_REPORT_BYTES, what="report").auditor
    if named is None:
        raise EvidenceError(f"{path} is signed but names no auditor")
    output.note(f"signed by the key the report itself names, {named.split('+')[0]}; pin it with --auditor {named}")
    return FoundReport(open_report(data, VerifierKey.parse(named)), data, True)
