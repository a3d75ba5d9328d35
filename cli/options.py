"""Options that several commands share, so that one name means one thing everywhere."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

LedgerOption = Annotated[
    str | None,
    typer.Option("--ledger", metavar="DIR|URL", help="The ledger's folder, or a served log's address. [PD_LEDGER]"),
]
LedgerFolder = Annotated[str | None, typer.Option("--ledger", metavar="DIR", help="The ledger's folder. [PD_LEDGER]")]
PolicyOption = Annotated[
    Path | None,
    typer.Option("--policy", metavar="FILE", help="Which logs and witnesses to believe (tlog-policy). [PD_POLICY]"),
]
AuthorsOption = Annotated[
    Path | None, typer.Option("--authors", metavar="FILE", help="Which author keys to believe. [PD_AUTHORS]")
]
IndexPolicyOption = Annotated[
    Path | None,
    typer.Option("--index-policy", metavar="FILE", help="Whose absence index to believe. [PD_INDEX_POLICY]"),
]
JsonOption = Annotated[bool, typer.Option("--json", help="One versioned JSON document on stdout.")]
ForceOption = Annotated[bool, typer.Option("--force", help="Overwrite files that exist.")]
ExitZero = Annotated[bool, typer.Option("--exit-zero", help="Exit 0 whatever the verdict; read it from the output.")]
