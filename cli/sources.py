"""From `--ledger DIR|URL` to something that can be read: an open ledger of one's own, or any tiled log."""

from __future__ import annotations

import contextlib
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from ..schemas.errors import EvidenceError, UsageError
from . import output, settings

if TYPE_CHECKING:
    from ..ledger.absence.note import IndexPolicy
    from ..ledger.entries.images import Image
    from ..ledger.ledger import Ledger
    from ..ledger.merkle.reader import TiledLog
    from ..ledger.notes.checkpoint import Checkpoint
    from ..ledger.notes.policy import AcceptedCheckpoint, Policy

_NONE_NAMED = "no ledger named: give --ledger, set PD_LEDGER, or write `ledger = ...` into plausible.toml"


def place(flag: str | None) -> str | Path:
    """The ledger the settings name: a URL (str) or a folder. `UsageError` if none is named."""
    value = settings.get("ledger", flag)
    if value is None:
        raise UsageError(_NONE_NAMED)
    return value


def folder(flag: str | None) -> Path:
    """The ledger's folder; `UsageError` for a URL, since what is asked needs the private half."""
    value = place(flag)
    if isinstance(value, str):
        raise UsageError(f"{value} is a served log: this command needs the ledger's own folder")
    return value


def public_folder(where: Path) -> Path:
    """What may be served of a folder: its `public/`, or itself if it is a copy of one; `SetupError` if neither."""
    from ..schemas.errors import SetupError

    for found in (where / "public", where):
        if (found / "tile").is_dir() or any((found / name).is_file() for name in ("checkpoint", "checkpoint.pending")):
            return found
    raise SetupError(f"{where} is no ledger and no public folder of one: it has neither log.toml nor a checkpoint")


@contextlib.contextmanager
def own(flag: str | None, mode: Literal["read", "append"] = "read") -> Generator[Ledger]:
    """The user's own ledger, open until the block ends."""
    from ..ledger import Ledger
    from . import vaultkeys

    path = folder(flag)
    ledger = Ledger.open(path, mode=mode, vault_key=vaultkeys.opening(path, append=mode == "append"))
    try:
        yield ledger
    finally:
        ledger.close()


@dataclass(frozen=True, slots=True)
class ServedLog:
    """A log as read from outside: its current checkpoint, and what the policy said about it (None: no policy)."""

    label: str
    log: TiledLog
    checkpoint: Checkpoint
    note: bytes
    accepted: AcceptedCheckpoint | None


@contextlib.contextmanager
def served(flag: str | None, policy_flag: Path | None = None) -> Generator[ServedLog]:
    """The log behind a folder or a URL, its tiles compared with its checkpoint.

    With a policy the checkpoint must meet it (`PolicyError`); without one a line on stderr says that nobody vouches.
    """
    from ..ledger.merkle.reader import DirectorySource, TiledLog
    from ..ledger.notes.checkpoint import Checkpoint
    from ..ledger.notes.note import Note

    where = place(flag)
    with contextlib.ExitStack() as stack:
        if isinstance(where, str):
            from ..node.client import HttpSource

            log = TiledLog(stack.enter_context(HttpSource(where)))
        else:
            from ..schemas.errors import SetupError

            public = where / "public"
            if not public.is_dir():
                raise SetupError(f"{where} is no ledger: it has no public/ folder")
            log = TiledLog(DirectorySource(public))
        found = policy(policy_flag)
        if found is None and isinstance(where, Path) and not (where / "public" / "checkpoint").exists():
            output.note("no checkpoint has met the quorum yet: showing the log's own head")
            note = log.checkpoint_bytes("checkpoint.pending")
        else:
            note = log.checkpoint_bytes()
        accepted = found.check(note) if found is not None else None
        checkpoint = accepted.checkpoint if accepted is not None else Checkpoint.parse(Note.parse(note).text)
        if accepted is None:
            output.note("no policy given: the checkpoint's signatures were not checked")
        if log.root(checkpoint.size) != checkpoint.root:
            raise EvidenceError(
                f"{where}: the tiles do not hash to the root of the checkpoint of size {checkpoint.size}"
            )
        yield ServedLog(str(where), log, checkpoint, note, accepted)


def has_attribution() -> bool:
    """Whether the extra `attribution` is here: without torch only evidence can be checked."""
    from importlib.util import find_spec

    return find_spec("torch") is not None and find_spec("safetensors") is not None


def require_attribution() -> None:
    """`SetupError` that says what to install, if the extra `attribution` is not here."""
    from ..schemas.errors import SetupError

    if not has_attribution():
        raise SetupError("this needs torch: pip install 'plausible-deniability[attribution]'")


def policy(flag: Path | None) -> Policy | None:
    """The policy the settings name, or None; a line on stderr says so if a file chose it."""
    from ..ledger.notes.policy import Policy

    path = settings.get("policy", flag)
    if path is None:
        return None
    for line in settings.chosen_by_files(["policy"] if flag is None else []):
        output.note(line)
    return Policy.parse(read_bytes(path, "the policy"))


def index_policy(flag: Path | None) -> IndexPolicy | None:
    """The index policy the settings name, or None; a line on stderr says so if a file chose it."""
    from ..ledger.absence.note import IndexPolicy

    path = settings.get("index_policy", flag)
    if path is None:
        return None
    for line in settings.chosen_by_files(["index_policy"] if flag is None else []):
        output.note(line)
    return IndexPolicy.parse(read_bytes(path, "the index policy"))


def read_bytes(path: Path, what: str, limit: int = 1 << 24) -> bytes:
    """A file somebody else made, at most `limit` bytes. `UsageError` if it is not there, `EvidenceError` if larger."""
    try:
        with path.open("rb") as file:
            data = file.read(limit + 1)
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
        raise UsageError(f"{what} {path} is no file") from None
    if len(data) > limit:
        raise EvidenceError(f"{what} {path} has more than {limit} bytes")
    return data


def index_of(ledger: Ledger, which: str) -> tuple[int, Path | None]:
    """The index that `which` means: a number, or an image's first entry; and the image's path if it was one."""
    if which.isascii() and which.isdigit():
        return int(which), None
    from ..ledger.entries.images import read_image

    path = Path(which)
    image: Image = read_image(path)
    found = sorted(set(ledger.find(pixels=image.pixel_digest)) | set(ledger.find(file=image.file_digest)))
    if not found:
        raise UsageError(f"{path} is in no entry of this ledger, neither by its pixels nor by its file")
    if len(found) > 1:
        output.note(f"{path} is in {len(found)} entries ({', '.join(map(str, found))}); taking the first")
    return found[0], path
