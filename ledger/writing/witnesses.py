"""Opening a ledger's witnesses: those that cosign in this process, and those the policy gives an address for."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

from ...schemas.errors import SetupError
from ..config import LedgerConfig, ledger_path
from ..notes.note import SignerKey
from ..notes.policy import Policy
from ..witness import Witness
from .cosigning import Cosigner

_log = logging.getLogger("plausible.ledger")


def open_witnesses(
    directory: Path, config: LedgerConfig, keys: Sequence[tuple[SignerKey, ...]], policy: Policy
) -> list[Cosigner]:
    """`keys` are those of each witness of log.toml, in its order. One that does not open is left out, and said."""
    opened: list[Cosigner] = []
    for witness, own in zip(config.witnesses, keys, strict=True):
        try:
            opened.append(Witness(witness.name, own, ledger_path(directory, witness.state)))
        except SetupError as error:
            # one witness less is what a quorum is for
            _log.warning("witness %s does not open: %s", witness.name, error)
    near = {witness.name for witness in config.witnesses}
    if any(witness.url is not None and witness.key.name not in near for witness in policy.witnesses):
        from ..witness.remote import open_witnesses as open_remote  # httpx takes longer to import than all of this room

        opened += open_remote(policy, near)
    return opened
