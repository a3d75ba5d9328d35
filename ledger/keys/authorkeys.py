"""The author's private keys in a ledger directory: the first, its successors, and those set aside after a revocation.

    keys/author.key              the key the ledger was made with
    keys/author-8C7402D5.key     a successor, named after its key ID
    keys/revoked/...             keys that count no more: kept, never read again

Which of them signs is written in state.db (the newest chain's author), not in the files. A predecessor's key stays
beside: entries recorded before the rotation and accepted after it belong to its chain. Setting a key aside is how a
revocation binds this directory: without the file no process signs with it.
"""

from __future__ import annotations

from pathlib import Path

from ...schemas.errors import SetupError
from ..notes.note import SignerKey
from ..storage.disk import storage, sync_folder
from .keyfile import read_key, write_key

KEYS_FOLDER = "keys"
FIRST_KEY = "author.key"
REVOKED_FOLDER = "revoked"


class AuthorKeys:
    """The keys of one directory, read when they are asked for and looked for again when one is not known."""

    def __init__(self, directory: Path, name: str) -> None:
        """`name` is the author's, as log.toml says: a key of another name is refused (`SetupError`)."""
        self._folder = directory / KEYS_FOLDER
        self._name = name
        self._known: dict[str, tuple[Path, SignerKey]] = {}
        self._read()

    def _read(self) -> None:
        self._known = {}
        with storage(f"reading {self._folder}"):
            paths = sorted(self._folder.glob("author*.key"))
        for path in paths:
            key = read_key(path)
            if key.name != self._name:
                raise SetupError(f"{path} is the key of {key.name!r}, but the author in log.toml is {self._name!r}")
            self._known[key.verifier.encode()] = (path, key)

    @property
    def all(self) -> tuple[SignerKey, ...]:
        """Every key that is here."""
        return tuple(key for _, key in self._known.values())

    def find(self, vkey: str) -> SignerKey | None:
        """The private key behind a verifier key, or None."""
        if vkey not in self._known:
            self._read()
        found = self._known.get(vkey)
        return None if found is None else found[1]

    def require(self, vkey: str) -> SignerKey:
        """The same; `SetupError` that says where it was looked for."""
        found = self.find(vkey)
        if found is None:
            first = self._folder / FIRST_KEY
            hint = f"the key file {first} is missing" if not first.exists() else f"it is in none of {self._folder}"
            raise SetupError(f"the private key of {vkey} is not here: {hint}; restore it from a backup")
        return found

    def add(self, key: SignerKey) -> Path:
        """Keep a successor's private key; where it is, if it is here already."""
        known = self._known.get(key.verifier.encode())
        if known is not None:
            return known[0]
        path = self._folder / f"author-{key.verifier.key_id.hex()}.key"
        write_key(path, key)
        self._known[key.verifier.encode()] = (path, key)
        return path

    def set_aside(self, vkey: str) -> Path | None:
        """Move a key out of use, durably; its new place, or None if it was not here."""
        if self.find(vkey) is None:
            return None
        path, _ = self._known.pop(vkey)
        aside = self._folder / REVOKED_FOLDER
        with storage(f"setting {path} aside"):
            aside.mkdir(mode=0o700, exist_ok=True)
            target = aside / path.name
            path.rename(target)
            sync_folder(aside)
            sync_folder(self._folder)
        return target


__all__ = ["FIRST_KEY", "REVOKED_FOLDER", "AuthorKeys"]
