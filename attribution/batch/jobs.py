"""The job list: pictures times generators, each job known by its content and not by a name.

The same picture under two names is one job; another picture under the same name is another job. A job is keyed by what
was asked: pixels, model, budget, versions of the inversions, seed, whether up to changes, and the calibrations that the
residual is held against. So a repeated run finds what is done, and nothing that was measured otherwise.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ...ledger.entries.digests import model_digest
from ...ledger.entries.images import MAX_FILE_BYTES, MAX_PIXELS, Image, read_image
from ...schemas import jcs
from ...schemas.errors import PlausibleError, SetupError, UsageError
from ...schemas.text import digest_text
from ..calibration.classes import Pixels
from ..generators.folder import CALIBRATIONS, read_manifest
from ..inversion import ENGINE_VERSION, LARGE_VERSION, RELAXED_VERSION
from ..inversion.budget import Budget
from ..stages.blank import without_evidence

EVIDENCE = (".tlog-proof", ".opening.json", ".absence-proof")
"""Ends of names of files that lie beside a picture and are none."""
MAX_PICTURES = 100_000
BLOCK = 64
"""Pictures whose jobs run generator by generator, so that a worker seldom changes generators."""


@dataclass(frozen=True, slots=True)
class Asking:
    """What is asked of every generator. `budget.seconds` is an outer guard and no part of a job's key."""

    budget: Budget = field(default_factory=Budget)
    relaxed: bool = True
    seed: int = 0
    device: str = "cpu"
    threads: int | None = None


@dataclass(frozen=True, slots=True)
class Bounds:
    """What a run takes at most; a larger picture is recorded as unreadable, a larger folder refused."""

    pictures: int = MAX_PICTURES
    pixels: int = MAX_PIXELS
    file_bytes: int = MAX_FILE_BYTES


@dataclass(frozen=True, slots=True)
class Picture:
    """A picture by name, as it was when the run began; digests are 32 bytes, None if it cannot be read.

    `problem` says why it cannot be read, `flat` why it is evidence of nothing.
    """

    path: Path
    name: str
    pixels: bytes | None = None
    file: bytes | None = None
    width: int | None = None
    height: int | None = None
    problem: str | None = None
    flat: str | None = None


@dataclass(frozen=True, slots=True)
class Subject:
    """A generator by folder: what a worker loads. `calibrations` are the digests of its inversion calibrations."""

    digest: str
    name: str
    folder: Path
    calibrations: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Task:
    """A job as it goes to a worker: picture uint8 [H, W, 3 or 4] and all."""

    key: bytes
    pixels_digest: str
    pixels: Pixels = field(repr=False)
    subject: Subject
    asking: Asking
    attempt: int = 1


def list_pictures(places: Iterable[str | Path], limit: int = MAX_PICTURES) -> tuple[list[tuple[Path, str]], int]:
    """(path, name) of every file in the folders and every file given, and how many evidence files were passed over.

    A name is the path as it would be opened from here. Folders are walked in the order of names, hidden files left
    out, links to folders not followed. `UsageError` if there are none, or more than `limit`.
    """
    found: dict[Path, str] = {}
    passed = 0
    for place in map(Path, places):
        for path in _files(place) if place.is_dir() else (place,):
            if path != place and path.name.endswith(EVIDENCE):
                passed += 1
                continue
            found.setdefault(path, printable_name(path))
            if len(found) > limit:
                raise UsageError(f"more than {limit} pictures: raise the limit, or give fewer")
    if not found:
        raise UsageError(f"no pictures in {', '.join(map(str, places))}")
    return list(found.items()), passed


def printable_name(path: Path) -> str:
    """The path as text; bytes that are no UTF-8 as escapes."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def _files(folder: Path) -> Iterator[Path]:
    def unreadable(error: OSError) -> None:
        raise SetupError(f"{error.filename} cannot be listed: {error.strerror}") from error

    for at, below, names in os.walk(folder, onerror=unreadable):
        below[:] = sorted(name for name in below if not name.startswith("."))
        for name in sorted(names):
            if not name.startswith("."):
                yield Path(at) / name


def read_picture(path: Path, name: str, bounds: Bounds) -> Picture:
    """What is known of a picture before any inversion, by the same reader and the same refusals as a verification."""
    try:
        image = load(path, bounds)
    except (PlausibleError, OSError) as error:
        return Picture(path, name, problem=f"the image cannot be read: {error}")
    return Picture(
        path, name, image.pixel_digest, image.file_digest, image.width, image.height,
        flat=without_evidence(image.pixels),
    )  # fmt: skip


def load(path: Path, bounds: Bounds) -> Image:
    """The picture in a file; `ImageRefused` for what is not read exactly."""
    return read_image(path, max_file_bytes=bounds.file_bytes, max_pixels=bounds.pixels)


def read_subject(folder: Path) -> Subject:
    """A model folder with its digest; `EvidenceError` or `SetupError` if there is none."""
    calibrations: list[str] = []
    for path in sorted((folder / CALIBRATIONS).glob("inversion-*.json")):
        try:
            calibrations.append(digest_text(hashlib.sha256(path.read_bytes()).digest()))
        except OSError as error:
            raise SetupError(f"the calibration {path} cannot be read") from error
    digest = digest_text(model_digest(read_manifest(folder)))
    return Subject(digest, folder.name, folder.resolve(), tuple(sorted(calibrations)))


def key_maker(subject: Subject, asking: Asking) -> Callable[[bytes], bytes]:
    """A function from a pixel digest to the key of its job, 32 bytes: SHA-256 of the JCS of what is asked."""
    asked = {
        "budget": asking.budget.digest,
        "calibrations": list(subject.calibrations),
        "distance": "l2",
        "engine": ENGINE_VERSION,
        "large_engine": LARGE_VERSION,
        "format": "plausible.attribution-job/1",
        "model": subject.digest,
        "relaxed": asking.relaxed,
        "relaxed_engine": RELAXED_VERSION,
        "seed": asking.seed,
    }
    return lambda pixels: hashlib.sha256(jcs.encode({**asked, "pixels": digest_text(pixels)})).digest()


@dataclass(frozen=True, slots=True)
class Planned:
    """A job that is to be run: which picture shows its pixels, which generator."""

    key: bytes
    picture: Picture
    subject: Subject


def plan(
    pictures: Sequence[Picture], subjects: Sequence[Subject], asking: Asking, done: Callable[[bytes], bool]
) -> Iterator[Planned]:
    """The jobs that are not done, each once, in blocks of pictures and in each block generator by generator."""
    makers = [(subject, key_maker(subject, asking)) for subject in subjects]
    seen: set[bytes] = set()
    ready = [picture for picture in pictures if picture.pixels is not None and picture.flat is None]
    for start in range(0, len(ready), BLOCK):
        for subject, key_of in makers:
            for picture in ready[start : start + BLOCK]:
                key = key_of(picture.pixels or b"")
                if key not in seen and not done(key):
                    seen.add(key)
                    yield Planned(key, picture, subject)
