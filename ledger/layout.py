"""Making a ledger directory: keys, log.toml, policy, authors, both databases, a signed empty tree. All or nothing.

studio.ledger/
  log.toml  policy.txt  authors.txt      what it is and whom it believes
  keys/  witnesses/  state.db  vault.db  private
  models/  lookup.db  lock               private; lookup.db is derived
  public/                                all that may be served
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ..schemas.errors import EvidenceError, SetupError, UsageError
from .absence.note import KEY_SUFFIX
from .config import CONFIG_FILE, INDEX_KEY, LedgerConfig, WitnessConfig, ledger_path
from .entries.authors import Authors
from .keys.authorkeys import AuthorKeys
from .keys.keyfile import check_roles, read_key, write_key
from .merkle.public import CHECKPOINTS, PUBLIC_FOLDER
from .merkle.tree import EMPTY_ROOT
from .notes.checkpoint import Checkpoint
from .notes.note import COSIGNATURE_ED25519, COSIGNATURE_ML_DSA_44, ED25519, SignerKey
from .notes.policy import Policy
from .storage.disk import staged_folder, storage, write_file
from .storage.state import STATE_FILE, Head, State
from .vault.vault import VAULT_FILE, Vault
from .vault.vaultkey import VaultKey
from .witness import Witness
from .writing.writer import WriterKeys

POLICY_FILE = "policy.txt"
AUTHORS_FILE = "authors.txt"
AUTHOR_KEY = "keys/author.key"
LOG_KEY = "keys/log.key"

WITNESS_KEYS = {
    "ed25519": (COSIGNATURE_ED25519,),
    "ml-dsa-44": (COSIGNATURE_ML_DSA_44,),
    "both": (COSIGNATURE_ED25519, COSIGNATURE_ML_DSA_44),
}
"""Which keys a new witness gets; with `both` its vote in the policy needs both signatures."""

_WITNESS = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/-]{0,127}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Contents:
    """What the text files of a ledger directory say."""

    config: LedgerConfig
    policy: Policy
    authors: Authors


def make_directory(
    path: Path,
    *,
    author: str,
    origin: str | None,
    policy: int | str | bytes | None,
    witnesses: Sequence[str],
    witness_keys: str = "ed25519",
    vault_key: VaultKey | None = None,
    index: bool = False,
) -> None:
    """Make a ledger directory at `path` (absent or empty); see `Ledger.init`."""
    with storage(f"making {path}"):
        taken = path.exists() and (not path.is_dir() or any(path.iterdir()))
    if taken:
        raise UsageError(f"{path} exists and is not empty: choose a new directory")
    kinds = WITNESS_KEYS.get(witness_keys)
    if kinds is None:
        raise UsageError(f"witness keys are {', '.join(WITNESS_KEYS)}, not {witness_keys!r}")
    try:
        author_key = SignerKey.generate(author, ED25519)
        log_key = SignerKey.generate(origin or f"{author}/log", ED25519)
        signers = [tuple(SignerKey.generate(name, kind) for kind in kinds) for name in witnesses]
    except EvidenceError as error:
        raise UsageError(str(error)) from None
    if len(set(witnesses)) != len(witnesses) or not all(_WITNESS.fullmatch(name) for name in witnesses):
        raise UsageError("witness names are letters, digits and ._/-, each used once")
    policy_text = _policy_text(policy, log_key, signers)
    with staged_folder(path, f"making {path}") as temporary:
        _fill(temporary, author_key, log_key, signers, policy_text, vault_key, index)


def write_index_key(folder: Path, origin: str) -> None:
    """A fresh key for a log's absence index, where log.toml looks for it."""
    write_key(folder / INDEX_KEY, SignerKey.generate(origin + KEY_SUFFIX, ED25519))


def _fill(
    folder: Path,
    author: SignerKey,
    log: SignerKey,
    witnesses: Sequence[tuple[SignerKey, ...]],
    policy_text: bytes,
    vault_key: VaultKey | None,
    index: bool,
) -> None:
    (folder / PUBLIC_FOLDER / CHECKPOINTS).mkdir(parents=True)
    (folder / "keys").mkdir(mode=0o700)
    (folder / "witnesses").mkdir(mode=0o700)
    write_key(folder / AUTHOR_KEY, author)
    write_key(folder / LOG_KEY, log)
    configs: list[WitnessConfig] = []
    for keys in witnesses:
        name = keys[0].name
        file = name.replace("/", "-")
        more = tuple(f"keys/witness-{file}-{_label(key)}.key" for key in keys[1:])
        config = WitnessConfig(name, f"keys/witness-{file}.key", f"witnesses/{file}.db", more)
        for key_file, key in zip(config.key_files, keys, strict=True):
            write_key(folder / key_file, key)
        with Witness.create(name, keys, folder / config.state) as witness:
            witness.add_log(log.name, [log.verifier])
        configs.append(config)
    if index:
        write_index_key(folder, log.name)
    config = LedgerConfig(author=author.name, origin=log.name, witnesses=tuple(configs), index_follow=index)
    write_file(folder / CONFIG_FILE, config.to_toml().encode("utf-8"))
    write_file(folder / POLICY_FILE, policy_text)
    write_file(folder / AUTHORS_FILE, f"author {author.verifier}\n".encode())
    note = Checkpoint(log.name, 0, EMPTY_ROOT).sign(log).encode()
    State.create(
        folder / STATE_FILE,
        author=author.verifier.encode(),
        chain=os.urandom(16),
        head=Head(0, EMPTY_ROOT, note),
        origin=log.name,
    ).close()
    Vault.create(folder / VAULT_FILE, key=vault_key).close()


def _label(key: SignerKey) -> str:
    return "ml-dsa-44" if key.kind == COSIGNATURE_ML_DSA_44 else "ed25519"


def _policy_text(policy: int | str | bytes | None, log: SignerKey, witnesses: Sequence[tuple[SignerKey, ...]]) -> bytes:
    lines = [f"log {log.verifier}"]
    if isinstance(policy, (str, bytes)):
        # the log's key is made here, so a given policy cannot name it yet
        data = ("\n".join(lines) + "\n").encode() + (policy.encode() if isinstance(policy, str) else policy)
    else:
        count = len(witnesses)
        needed = count // 2 + 1 if policy is None else policy
        if policy is not None and not 1 <= policy <= count:
            raise UsageError(f"{policy} of {count} witnesses cannot be asked for")
        names = [f"w{number + 1}" for number in range(count)]
        for name, keys in zip(names, witnesses, strict=True):
            if len(keys) == 1:
                lines.append(f"witness {name} {keys[0].verifier}")
                continue
            # a vote is all of the witness's signatures: who can forge one kind of them has no vote yet
            parts = [f"{name}-{_label(key)}" for key in keys]
            lines += [f"witness {part} {key.verifier}" for part, key in zip(parts, keys, strict=True)]
            lines.append(f"group {name} all {' '.join(parts)}")
        if count:
            lines += [f"group witnesses {needed} {' '.join(names)}", "quorum witnesses"]
        else:
            lines.append("quorum none")
        data = ("\n".join(lines) + "\n").encode()
    try:
        Policy.parse(data)
    except EvidenceError as error:
        raise UsageError(f"the policy is not usable: {error}") from None
    return data


def read_directory(path: Path) -> Contents:
    """The text files of a ledger directory; `SetupError` for anything missing or malformed."""
    config = LedgerConfig.read(path)
    try:
        policy = Policy.parse((path / POLICY_FILE).read_bytes())
        authors = Authors.parse((path / AUTHORS_FILE).read_bytes())
    except OSError as error:
        raise SetupError(f"{error.filename} cannot be read: {error.strerror}") from None
    except EvidenceError as error:
        raise SetupError(f"{path}: {error}") from None
    return Contents(config, policy, authors)


def read_keys(path: Path, config: LedgerConfig) -> WriterKeys:
    """The private keys of a sequencing process; `SetupError` if one is missing or serves two roles."""
    authors = AuthorKeys(path, config.author)
    logs = tuple(read_key(ledger_path(path, file)) for file in config.log_keys)
    witnesses = tuple(
        tuple(read_key(ledger_path(path, file)) for file in witness.key_files) for witness in config.witnesses
    )
    if any(log.name != config.origin for log in logs):
        raise SetupError(f"{path / CONFIG_FILE} names another log key than that in keys/")
    roles = [("author", key.verifier.public) for key in authors.all]
    roles += [("log", log.verifier.public) for log in logs]
    roles += [(f"witness {key.name}", key.verifier.public) for keys in witnesses for key in keys]
    index = read_key(ledger_path(path, config.index_key)) if config.index_follow else None
    if index is not None:
        if index.name != config.origin + KEY_SUFFIX or index.kind != ED25519:
            name = config.origin + KEY_SUFFIX
            raise SetupError(f"{path / CONFIG_FILE}: the key of [index] is an Ed25519 key named {name}")
        roles.append(("index", index.verifier.public))
    check_roles(roles)
    return WriterKeys(authors, logs, witnesses, index)
