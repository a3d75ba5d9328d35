"""Key files: one private key a file, mode 0600, in the text form of signed notes (`PRIVATE+KEY+name+hex+base64`).

A raw key serves one role only (author, log, witness, mirror, index, auditor): a signature made in one role must never
mean something in another. A key file is read only if nobody but its owner can read it. Thieves: see docs/security.md.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable
from pathlib import Path

from ...schemas.errors import EvidenceError, SetupError, UsageError
from ..notes.note import SignerKey
from ..storage.disk import storage, write_file

ROLES = ("author", "log", "witness", "mirror", "index", "auditor")


def write_key(path: Path, key: SignerKey) -> None:
    """Store a private key with mode 0600; refuses to replace a file (`UsageError`)."""
    with storage(f"writing {path}"):
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    try:
        with storage(f"writing {path}"):
            write_file(path, (key.encode() + "\n").encode("utf-8"), mode=0o600, exclusive=True)
    except SetupError as error:
        if isinstance(error.__cause__, FileExistsError):
            raise UsageError(f"{path} exists; a key file is never replaced") from None
        raise


def read_private(path: Path, what: str, limit: int = 65_536) -> bytes:
    """At most `limit` bytes of a file (`what` it is) that only its owner may read; `SetupError` if absent or open."""
    try:
        with path.open("rb") as file:
            mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
            data = file.read(limit)
    except FileNotFoundError:
        raise SetupError(f"{what} {path} is missing") from None
    except OSError as error:
        raise SetupError(f"{what} {path} cannot be read: {error.strerror}") from None
    # Windows has no such bits: there the folder's permissions must do
    if os.name == "posix" and mode & 0o077:
        raise SetupError(f"{what} {path} is open to others (mode {mode:04o}): chmod 600 it")
    return data


def read_key(path: Path) -> SignerKey:
    """Read a private key file; `SetupError` if it is absent, malformed or readable by others."""
    data = read_private(path, "the key file")
    try:
        return SignerKey.parse(data.decode("utf-8").strip())
    except (EvidenceError, UnicodeError) as error:
        raise SetupError(f"the key file {path} holds no private key: {error}") from None


def check_roles(keys: Iterable[tuple[str, bytes]]) -> None:
    """Each raw public key serves one role: `SetupError` naming the two that share one."""
    seen: dict[bytes, str] = {}
    for role, public in keys:
        other = seen.setdefault(public, role)
        if other != role:
            raise SetupError(f"one raw key serves as {other} and as {role}; make a key of its own for each role")
