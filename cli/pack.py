"""`pd pack`: one archive for a court, with everything that was relied upon and how to check it again."""

from __future__ import annotations

import hashlib
import io
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from . import output, settings, sources
from .options import AuthorsOption, ForceOption, PolicyOption
from .report import read_report

if TYPE_CHECKING:
    from .report import FoundReport

_PACKAGES = ("cryptography", "numpy", "pillow", "pydantic", "rfc8785", "scipy", "torch", "safetensors", "pdqhash")


def pack(
    image: Annotated[Path, typer.Argument(metavar="IMAGE", help="The picture the report is about.")],
    report: Annotated[Path, typer.Option("--report", metavar="FILE", help="The report: JSON or signed envelope.")],
    out: Annotated[Path, typer.Option("--out", metavar="FILE", help="The archive.")],
    policy: PolicyOption = None,
    authors: AuthorsOption = None,
    evidence: Annotated[
        list[Path] | None,
        typer.Option(
            "--evidence", metavar="FILE", help="Proofs and openings; repeatable. [default: those beside IMAGE]"
        ),
    ] = None,
    add: Annotated[
        list[Path] | None, typer.Option("--add", metavar="FILE", help="Other files, such as calibrations; repeatable.")
    ] = None,
    force: ForceOption = False,
) -> None:
    """\b
        pd verify face.png --policy court.policy --authors authors.txt --json > face.report.json
        pd pack face.png --report face.report.json --policy court.policy --authors authors.txt --out case.zip

    Make one archive for a court: picture, report, evidence, policy, authors, versions, and how to check it again.

    Refused if the report is about another picture, or was made under another policy or other authors than the files
    given. The same files give the same archive, byte for byte.

    Python: plausible.cli.pack.make_archive
    """
    found = read_report(report)
    files = {
        "policy.txt": _optional("policy", policy),
        "authors.txt": _optional("authors", authors),
    }
    proofs = evidence if evidence else [path for path in beside(image) if path.is_file()]
    extra = [(f"evidence/{path.name}", sources.read_bytes(path, "the evidence")) for path in proofs]
    extra += [(f"more/{path.name}", sources.read_bytes(path, "the file", 1 << 28)) for path in add or []]
    data = make_archive(
        found,
        (image.name, sources.read_bytes(image, "the picture", 1 << 28)),
        {name: content for name, content in files.items() if content is not None},
        extra,
    )
    output.write_file(out, data, force=force)
    output.note(f"wrote {out}: {len(zipfile.ZipFile(io.BytesIO(data)).namelist())} files, {len(data)} bytes")


def beside(image: Path) -> tuple[Path, ...]:
    """Where the evidence for an image is looked for: IMAGE.tlog-proof, IMAGE.opening.json and IMAGE.epoch-proof."""
    return tuple(image.with_name(image.name + suffix) for suffix in (".tlog-proof", ".opening.json", ".epoch-proof"))


def make_archive(
    report: FoundReport,
    image: tuple[str, bytes],
    trust: dict[str, bytes],
    extra: list[tuple[str, bytes]],
) -> bytes:
    """The archive's bytes. `trust` holds `policy.txt` and `authors.txt` where they were used.

    Raises `EvidenceError` if the report is about another picture, `UsageError` if a file of `trust` is not the one
    that the report names, or if two files have one name.
    """
    from ..attribution.report.document import render
    from ..ledger.entries.images import read_image
    from ..schemas.errors import EvidenceError, UsageError
    from ..schemas.text import digest_text

    document = report.document
    name, picture = image
    if document.image.file is not None and digest_text(hashlib.sha256(picture).digest()) != document.image.file:
        raise EvidenceError(f"{name} is not the file that the report is about")
    if document.image.pixels is not None and digest_text(read_image(picture).pixel_digest) != document.image.pixels:
        raise EvidenceError(f"{name} is not the picture that the report is about")
    for file, claimed in (("policy.txt", document.policy), ("authors.txt", document.authors)):
        given = trust.get(file)
        actual = None if given is None else digest_text(hashlib.sha256(given).digest())
        if actual != claimed:
            word = file.removesuffix(".txt")
            raise UsageError(
                f"the report was made with {'no' if claimed is None else 'another'} {word} file; give the one it names"
                if given is not None
                else f"the report was made with a {word} file of digest {claimed}: give it with --{word}"
            )
    files: dict[str, bytes] = {
        f"image/{name}": picture,
        "report.dsse.json" if report.signed else "report.json": report.data,
        "report.html": render(document).encode(),
        **trust,
        "versions.txt": _versions().encode(),
    }
    for path, content in extra:
        if path in files:
            raise UsageError(f"two files would be {path} in the archive")
        files[path] = content
    files["README.txt"] = _readme(report, name).encode()
    sums = "".join(f"{hashlib.sha256(content).hexdigest()}  {path}\n" for path, content in sorted(files.items()))
    files["SHA256SUMS"] = sums.encode()
    return _zip(files)


def _zip(files: dict[str, bytes]) -> bytes:
    """Sorted, with one fixed date: the same files give the same bytes."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for path, content in sorted(files.items()):
            entry = zipfile.ZipInfo(path, (1980, 1, 1, 0, 0, 0))
            entry.external_attr = 0o644 << 16
            entry.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(entry, content)
    return out.getvalue()


def _optional(name: str, flag: Path | None) -> bytes | None:
    path = settings.get(name, flag)
    return None if path is None else sources.read_bytes(path, f"the {name} file")


def _versions() -> str:
    import platform
    from importlib.metadata import PackageNotFoundError, version

    from .main import version as own

    lines = [f"plausible-deniability {own()}", f"Python {platform.python_version()}", platform.platform()]
    for package in _PACKAGES:
        try:
            lines.append(f"{package} {version(package)}")
        except PackageNotFoundError:
            lines.append(f"{package} not installed")
    return "\n".join(lines) + "\n"


def _readme(report: FoundReport, image: str) -> str:
    document = report.document
    verdict = document.verdict
    signed = f"signed by {document.auditor}" if report.signed else "not signed"
    missing = "\n".join(f"  - {sentence}" for sentence in document.not_shown)
    return f"""About the picture image/{image}

Verdict: {verdict.word} (exit code {verdict.exit_code})
{verdict.line}

Made {document.created}; {signed}. report.html is a rendering of the report for reading; the report decides.

What this does not show:
{missing}

To check that no file was changed:    sha256sum -c SHA256SUMS
To check it again, with plausible-deniability and the versions of versions.txt:

  {document.command}
"""
