"""Which log a ledger sends to: `sender.toml` (its address) and `sender.policy` (its key, witnesses, quorum) beside
it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ...ledger.notes.policy import Policy
from ...ledger.storage.disk import storage, write_file
from ...schemas.errors import EvidenceError, SetupError, UsageError
from ..settings import quoted, read_table

CONFIG, POLICY = "sender.toml", "sender.policy"


@dataclass(frozen=True, slots=True)
class SenderSettings:
    """The log's address, and the policy under which its checkpoints count."""

    url: str
    policy: Policy


def write_settings(folder: Path, url: str, policy: bytes) -> None:
    """Let the ledger in `folder` send to a log from now on; `UsageError` if it sends to another one already."""
    try:
        Policy.parse(policy)
    except EvidenceError as error:
        raise UsageError(f"the policy of the log at {url} cannot be used: {error}") from None
    if (folder / CONFIG).exists() and read_settings(folder).url != url.rstrip("/"):
        raise UsageError(f"{folder} sends to {read_settings(folder).url}: a ledger sends to one log")
    with storage(f"writing {folder / CONFIG}"):
        write_file(folder / POLICY, policy)
        write_file(folder / CONFIG, f"version = 1\nurl = {quoted(url.rstrip('/'))}\n".encode())


def read_settings(folder: Path) -> SenderSettings:
    """The settings of a ledger that sends; `SetupError` if it does not."""
    missing = f"{folder} sends to no log: say which with pd init --send-to URL --send-policy FILE"
    table = read_table(folder / CONFIG, {"url"}, missing)
    url = table.get("url")
    if not isinstance(url, str):
        raise SetupError(f"{folder / CONFIG}: url is missing or not a text")
    try:
        return SenderSettings(url, Policy.parse((folder / POLICY).read_bytes()))
    except OSError as error:
        raise SetupError(f"{folder / POLICY} cannot be read: {error.strerror}") from None
    except EvidenceError as error:
        raise SetupError(f"{folder / POLICY}: {error}") from None
