"""`pd init`: make a ledger."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from . import output, sources
from .options import JsonOption


class WitnessKeys(StrEnum):
    """What a new witness signs with."""

    ED25519 = "ed25519"
    ML_DSA_44 = "ml-dsa-44"
    BOTH = "both"


def init(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="The new ledger's folder; absent or empty.")],
    author: Annotated[
        str, typer.Option("--author", metavar="NAME", help="Who logs: a key name, best a URL without scheme.")
    ],
    origin: Annotated[
        str | None, typer.Option(metavar="NAME", help="The log's name for ever. [default: AUTHOR/log]")
    ] = None,
    witness: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="A witness that cosigns in this process, its key in DIR; repeatable."),
    ] = None,
    quorum: Annotated[
        int | None, typer.Option(min=1, help="How many of the witnesses must cosign. [default: a majority]")
    ] = None,
    policy: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Witnesses elsewhere: witness lines with URLs, group and quorum lines."),
    ] = None,
    witness_keys: Annotated[
        WitnessKeys, typer.Option(help="What the witnesses sign with; `both`: a vote needs both signatures.")
    ] = WitnessKeys.ED25519,
    vault_key: Annotated[
        Path | None,
        typer.Option("--vault-key", metavar="FILE", help="Encrypt the vault with this key file, made if absent."),
    ] = None,
    vault_passphrase: Annotated[
        bool,
        typer.Option("--vault-passphrase", help="Encrypt the vault with a passphrase. [asks, or PD_VAULT_PASSPHRASE]"),
    ] = False,
    index: Annotated[
        bool, typer.Option("--index", help="Keep the absence index up and sign it while the ledger is in use.")
    ] = False,
    send_to: Annotated[
        str | None, typer.Option("--send-to", metavar="URL", help="Send the entries to this log too (pd node log).")
    ] = None,
    send_policy: Annotated[
        Path | None, typer.Option("--send-policy", metavar="FILE", help="That log's key, witnesses and quorum.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """\b
        pd init studio.ledger --author models.example/studio
        pd init studio.ledger --author models.example/studio --witness a.example --witness b.example --witness c.example

    Make a ledger: fresh keys, an empty vault, an empty signed log.

    What a verifier needs from you are two files: policy.txt (which log and witnesses) and authors.txt (which author
    key). Only DIR/public may be served; everything else is private. Without witnesses nobody but you says when
    something was logged.

    With --policy FILE the witnesses are other programs: lines `witness NAME VKEY URL`, `group` and `quorum` of a
    tlog-policy. Give each of them the log's line of DIR/policy.txt; until a quorum watches the log nothing is signed.

    With --vault-key or --vault-passphrase the private records are encrypted, and where the setting vault_key
    (PD_VAULT_KEY) or PD_VAULT_PASSPHRASE names the key. Commands take it from there, or ask on the terminal.

    With --index the process that records also signs, when a head was witnessed, the root of the absence index, which
    proofs that a picture is not in the log need (pd prove-absence).

    With --send-to the ledger's entries also go to a log elsewhere, once its operator allows the author's key; programs
    open it with plausible.node.sender.open_ledger.

    Python: plausible.ledger.Ledger.init
    """
    from ..ledger import Ledger
    from ..ledger.config import INDEX_KEY
    from ..ledger.keys.keyfile import read_key
    from ..ledger.layout import AUTHORS_FILE, POLICY_FILE
    from ..ledger.vault.vaultkey import PASSPHRASE_VARIABLE
    from ..schemas.errors import UsageError
    from . import vaultkeys

    names = tuple(witness or ())
    lines = sources.read_bytes(policy, "the policy") if policy is not None else None
    if lines is not None and (names or quorum is not None):
        raise UsageError("--policy says which witnesses there are: leave --witness and --quorum out")
    if (send_to is None) != (send_policy is None):
        raise UsageError("--send-to and --send-policy go together: whom to believe about that log is yours to say")
    there = None if send_policy is None else sources.read_bytes(send_policy, "the policy of the log to send to")
    if quorum is not None and quorum > len(names):
        raise UsageError(f"a quorum of {quorum} needs at least {quorum} witnesses; {len(names)} named")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UsageError(f"{folder} exists and is not empty: choose a new directory")
    key = vaultkeys.new(vault_key, vault_passphrase, PASSPHRASE_VARIABLE, folder) or vaultkeys.given()
    with Ledger.init(
        folder,
        author=author,
        origin=origin,
        policy=quorum if lines is None else lines,
        witnesses=names,
        witness_keys=witness_keys.value,
        vault_key=key,
        index=index,
    ) as ledger:
        if send_to is not None and there is not None:
            from ..node.sender.settings import write_settings

            write_settings(folder, send_to, there)
        found: dict[str, Any] = {
            "folder": str(folder),
            "author": ledger.author_vkey,
            "origin": ledger.origin,
            "policy": str(folder / POLICY_FILE),
            "authors": str(folder / AUTHORS_FILE),
            "witnesses": list(dict.fromkeys(w.key.name for w in ledger.policy.witnesses)),
            "encrypted": key is not None,
            "index": str(read_key(folder / INDEX_KEY).verifier) if index else None,
        }
        log_key = ledger.policy.logs[0].key.encode()
    if as_json:
        output.document("plausible.init/1", found)
        return
    output.result(f"ledger    {folder}")
    output.result(f"author    {found['author']}")
    output.result(f"log       {found['origin']}")
    output.result(f"witnesses {', '.join(found['witnesses']) or 'none: nobody else says when something was logged'}")
    if lines is not None:
        output.result(f"log key   {log_key}  give it to every witness: pd witness add DIR KEY")
    if index:
        output.result(f"index key {found['index']}  for the index.policy of who wants proofs of absence")
    output.result(f"vault     {'encrypted' if key is not None else 'in the clear: pd vault encrypt'}")
    output.result(
        f"give verifiers {found['policy']} and {found['authors']}; serve {folder / 'public'} and nothing else"
    )
