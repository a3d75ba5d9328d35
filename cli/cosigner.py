"""What `pd witness` and `pd mirror` share: options of keys and guards, and verifier keys as arguments."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from . import output

if TYPE_CHECKING:
    from ..ledger.notes.note import VerifierKey


class KeyType(StrEnum):
    """What a witness or mirror can sign with."""

    ED25519 = "ed25519"
    ML_DSA_44 = "ml-dsa-44"


KeyTypesOption = Annotated[
    list[KeyType] | None, typer.Option("--key", help="Type of key; repeat for several (default: ed25519).")
]
GuardOption = Annotated[
    Path | None, typer.Option("--guard", metavar="FILE", help="The counter outside DIR that notices a restored backup.")
]
NoGuardOption = Annotated[bool, typer.Option("--no-guard", help="Do without that counter.")]
OriginArgument = Annotated[str, typer.Argument(metavar="ORIGIN", help="The log's origin.")]
OriginOption = Annotated[str | None, typer.Option(help="The log's origin (default: the key's name).")]
NewKeysArgument = Annotated[
    list[str], typer.Argument(metavar="VKEY|FILE...", help="All keys that it may sign with from now on.")
]


def key_kinds(keys: Sequence[KeyType] | None, guard: Path | None, no_guard: bool) -> tuple[str, ...]:
    """The types of keys that are wanted, each once; `UsageError` if the options of the guard contradict each other."""
    from ..schemas.errors import UsageError

    if guard is not None and no_guard:
        raise UsageError("--guard and --no-guard exclude each other")
    return tuple(dict.fromkeys(str(key) for key in keys or [KeyType.ED25519]))


def tell_guard(folder: Path, guard: Path | None) -> None:
    """Where the guard of a new witness or mirror lies, or what it means to have none."""
    if guard is None:
        output.note(
            "without a guard a restored backup is noticed only when a log shows a later cosignature of this key"
        )
    else:
        output.note(f"the guard is {guard}: keep it out of every backup that holds {folder}")


def read_keys(texts: list[str]) -> list[VerifierKey]:
    """The verifier keys in arguments, each a key or a file that holds one a line."""
    from ..ledger.notes.note import VerifierKey

    return [VerifierKey.parse(line) for text in texts for line in _lines(text)]


def _lines(text: str) -> list[str]:
    """The verifier keys of an argument: itself, or the lines of the file it names."""
    path = Path(text)
    if "+" in text and not path.is_file():
        return [text]
    try:
        return [line.strip() for line in path.read_text("utf-8").splitlines() if line.strip()]
    except (OSError, UnicodeError) as error:
        from ..schemas.errors import SetupError

        raise SetupError(f"{text} is neither a verifier key nor a file of them: {error}") from None
