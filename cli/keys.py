"""`pd keys ...`: private keys in files, and the public text of each."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from . import output
from .options import JsonOption


class Role(StrEnum):
    """What a key is for; a raw key serves one role only."""

    AUTHOR = "author"
    LOG = "log"
    WITNESS = "witness"
    INDEX = "index"
    AUDITOR = "auditor"


def generate(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The key's name: a URL without scheme, no spaces.")],
    out: Annotated[Path, typer.Option("--out", metavar="FILE", help="The private key's file; it must not exist.")],
    role: Annotated[Role, typer.Option(help="What the key is for.")] = Role.AUDITOR,
    ml_dsa: Annotated[bool, typer.Option("--ml-dsa", help="A post-quantum ML-DSA-44 key (witnesses only).")] = False,
) -> None:
    """\b
        pd keys generate auditor.example --role auditor --out auditor.key
        pd keys generate witness-a.example --role witness --out witness-a.key

    Make a private key in a file that only you can read, and print its verifier key.

    The file is never overwritten: whoever loses a key makes a new one under a new file.

    Python: plausible.ledger.keys.keyfile.write_key
    """
    from ..ledger.keys.keyfile import write_key
    from ..ledger.notes.note import COSIGNATURE_ED25519, COSIGNATURE_ML_DSA_44, ED25519, SignerKey
    from ..schemas.errors import UsageError

    if ml_dsa and role is not Role.WITNESS:
        raise UsageError(f"a key for the role {role} is Ed25519; only witnesses may have ML-DSA-44")
    if role is Role.INDEX and not name.endswith("/index"):
        raise UsageError(f"an index key is named after its signer: {name}/index")
    kind = ED25519
    if role is Role.WITNESS:
        kind = COSIGNATURE_ML_DSA_44 if ml_dsa else COSIGNATURE_ED25519
    key = SignerKey.generate(name, kind)
    write_key(out, key)
    output.note(f"private key of role {role} in {out}; give away only the line on stdout")
    output.result(key.verifier.encode())


def show(
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help="Private key files.")],
    as_json: JsonOption = False,
) -> None:
    """\b
        pd keys show studio.ledger/keys/author.key

    Print the verifier keys of private key files: what others put into a policy or an authors file.

    Python: plausible.ledger.keys.keyfile.read_key
    """
    from ..ledger.keys.keyfile import read_key

    keys = [(path, read_key(path).verifier) for path in files]
    if as_json:
        rows = [
            {"file": str(path), "name": key.name, "type": f"0x{key.kind:02x}", "vkey": key.encode()}
            for path, key in keys
        ]
        output.document("plausible.keys/1", {"keys": rows})
        return
    for _path, key in keys:
        output.result(key.encode())
