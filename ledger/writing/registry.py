"""Registered models: a name in this ledger, the folder behind it, and the `model:v1` entry that dates it.

Folders are copied to `models/NAME/` (private: weights may be). A name keeps its digest for ever: replays of old entries
need the weights they were made with, so a changed model gets a new name.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from ...schemas import jcs
from ...schemas.errors import EvidenceError, SetupError, UsageError
from ...schemas.manifest import MAX_MANIFEST_BYTES, Manifest
from ..entries.digests import model_digest
from ..entries.weights import CALIBRATIONS_FOLDER, MANIFEST_FILE, WEIGHTS_FILE, check_weights
from ..storage.disk import storage, sync_folder, write_file

MODELS_FOLDER = "models"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", re.ASCII)


@dataclass(frozen=True, slots=True)
class RegisteredModel:
    """A model of this ledger: `digest` (32 bytes), `index` of its entry, `folder` with manifest and perhaps weights."""

    name: str
    digest: bytes
    index: int
    folder: Path

    def manifest(self) -> dict[str, Any]:
        """The manifest, checked against the digest; `SetupError` if the folder was changed."""
        manifest = read_manifest(self.folder / MANIFEST_FILE)
        if model_digest(manifest) != self.digest:
            raise SetupError(f"{self.folder / MANIFEST_FILE} is not the manifest that was registered as {self.name!r}")
        return manifest


def check_name(name: str) -> str:
    """`name` if it can name a model (letters, digits and ._-, at most 64); else `UsageError`."""
    if not _NAME.fullmatch(name):
        raise UsageError(
            f"a model's name is up to 64 letters, digits and ._- and does not start with ._-: not {name!r}"
        )
    return name


def read_manifest(path: Path) -> dict[str, Any]:
    """A manifest file; `SetupError` if absent, `EvidenceError` if malformed."""
    try:
        with path.open("rb") as file:
            data = file.read(MAX_MANIFEST_BYTES + 1)
    except OSError as error:
        raise SetupError(f"{path} cannot be read: {error.strerror}") from error
    return parse_manifest(data, str(path))


def parse_manifest(data: bytes, what: str = "manifest") -> dict[str, Any]:
    """The JSON manifest in `data`, in its only byte form."""
    Manifest.parse(data, limit=MAX_MANIFEST_BYTES, what=what)
    return cast("dict[str, Any]", jcs.decode(data, limit=MAX_MANIFEST_BYTES, what=what))


def store_model(directory: Path, name: str, *, manifest: Mapping[str, Any] | None, folder: Path | None) -> bytes:
    """Put a model into `models/NAME/` and return its digest; safe to repeat with the same model.

    Either a manifest alone or a folder {manifest.json, weights.safetensors, calibrations/*.json}, whose weights must be
    the manifest's (`EvidenceError`). `UsageError` if the name stands for another model.
    """
    check_name(name)
    if (manifest is None) == (folder is None):
        raise UsageError("register_model takes either manifest= or folder=")
    if folder is not None:
        found = read_manifest(folder / MANIFEST_FILE)
        if (folder / WEIGHTS_FILE).is_file():
            check_weights(folder / WEIGHTS_FILE, found)
    else:
        found = parse_manifest(jcs.encode(dict(cast("Mapping[str, Any]", manifest))))
    digest = model_digest(found)
    target = directory / MODELS_FOLDER / name
    with storage(f"reading {target}"):
        exists = target.exists()
    if exists:
        if model_digest(read_manifest(target / MANIFEST_FILE)) != digest:
            raise UsageError(
                f"{name!r} is registered with another manifest: replays of its entries need it, give the changed model "
                "a name of its own"
            )
        if folder is not None and folder.resolve() != target.resolve():
            _copy(folder, target)
        return digest
    with storage(f"writing {target}"):
        target.parent.mkdir(mode=0o700, exist_ok=True)
        temporary = target.with_name(f".tmp-{os.getpid():x}-{os.urandom(4).hex()}")
        temporary.mkdir(mode=0o700)
        try:
            if folder is not None:
                _copy(folder, temporary)
            else:
                write_file(temporary / MANIFEST_FILE, jcs.encode(found))
            temporary.rename(target)
            sync_folder(target.parent)
        except BaseException:
            shutil.rmtree(temporary, ignore_errors=True)
            raise
    return digest


def _copy(source: Path, target: Path) -> None:
    """Copy what a model folder is made of, and nothing else that may lie in it."""
    with storage(f"copying {source} to {target}"):
        names = [Path(MANIFEST_FILE), Path(WEIGHTS_FILE)]
        names += [path.relative_to(source) for path in sorted((source / CALIBRATIONS_FOLDER).glob("*.json"))]
        for name in names:
            if not (source / name).is_file() or (target / name).exists():
                continue
            (target / name).parent.mkdir(exist_ok=True)
            temporary = (target / name).with_name(f".tmp-{os.urandom(4).hex()}")
            shutil.copyfile(source / name, temporary)
            descriptor = os.open(temporary, os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
            temporary.rename(target / name)


__all__ = [
    "MODELS_FOLDER",
    "EvidenceError",
    "RegisteredModel",
    "check_name",
    "parse_manifest",
    "read_manifest",
    "store_model",
]
