"""`pd policy ...`: whom to believe, made, checked and said in words."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from . import output, settings, sources
from .options import AuthorsOption, ForceOption, IndexPolicyOption, JsonOption, LedgerOption, PolicyOption

if TYPE_CHECKING:
    from ..ledger.entries.authors import Authors
    from ..ledger.notes.note import VerifierKey
    from ..ledger.notes.operators import Weakness

Out = Annotated[Path, typer.Argument(metavar="FILE", help="The file to write.")]
Logs = Annotated[
    list[str],
    typer.Option("--log", metavar="'VKEY [URL]'", help="A log's key and address; two keys while one follows."),
]
Quorum = Annotated[int, typer.Option("--quorum", min=0, metavar="K", help="How many operators must sign; 0: none.")]


def make(
    out: Out,
    log: Logs,
    quorum: Quorum,
    witness: Annotated[
        list[str] | None, typer.Option("--witness", metavar="'VKEY [URL]'", help="A witness's key and address.")
    ] = None,
    force: ForceOption = False,
) -> None:
    """\b
        pd policy make court.policy --log "$LOG" --witness "$A" --witness "$B" --witness "$C" --quorum 2

    Write a policy: which log to believe, and how many of its witnesses must have cosigned.

    The quorum counts operators, the host in a key's name: two witnesses of one operator are one, and of one with an
    Ed25519 and an ML-DSA-44 key both are asked for. Get keys from their operators, never from the log.

    Python: plausible.ledger.notes.operators.policy_text
    """
    from ..ledger.notes.operators import describe, policy_text, weaknesses
    from ..ledger.notes.policy import Policy

    data = policy_text(_places(log), _places(witness), quorum)
    output.write_file(out, data, force=force)
    parsed = Policy.parse(data)
    for line in describe(parsed):
        output.result(line)
    _warn("policy", weaknesses(parsed))


def index(
    out: Out,
    log: Logs,
    quorum: Quorum,
    signer: Annotated[
        list[str] | None,
        typer.Option("--signer", metavar="'VKEY [URL]'", help="Who recomputes the index: .../index keys."),
    ] = None,
    force: ForceOption = False,
) -> None:
    """\b
        pd policy index court.index.policy --log "$LOG_INDEX" --signer "$MIRROR_INDEX" --quorum 1

    Write an index policy: whose recomputed roots of the absence index to believe. All keys end in /index.

    Python: plausible.ledger.notes.operators.policy_text
    """
    from ..ledger.absence.note import IndexPolicy
    from ..ledger.notes.operators import describe, policy_text, weaknesses

    data = policy_text(_places(log), _places(signer), quorum)
    parsed = IndexPolicy.parse(data).policy
    output.write_file(out, data, force=force)
    for line in describe(parsed, "An index root", "recomputed and signed it"):
        output.result(line)
    _warn("index policy", weaknesses(parsed, index=True))


def authors(
    out: Out,
    keys: Annotated[list[str], typer.Argument(metavar="VKEY|FILE...", help="Author keys, or files of them.")],
    force: ForceOption = False,
) -> None:
    """\b
        pd policy authors authors.txt 'models.example/studio+8c7402d5+AQOh...'

    Write authors.txt: whose entries to believe. A revocation is added by hand: ORIGIN and INDEX behind a key.

    Get keys from their owners, on another way than the log.

    Python: plausible.ledger.entries.authors.Authors.of
    """
    from ..ledger.entries.authors import Authors

    made = Authors.of(key for key, _ in _places(keys))
    output.write_file(out, made.source, force=force)
    for author in made.authors:
        output.result(f"Author {author.name}, key {author.key.key_id.hex()}.")


def show(
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help="Policies, index policies, authors files.")],
) -> None:
    """\b
        pd policy show court.policy authors.txt

    Say in words what policies, index policies and authors files mean: logs, operators, the quorum.

    Python: plausible.ledger.notes.operators.describe
    """
    for path in files:
        if len(files) > 1:
            output.result(f"{path}:")
        for line in _words(sources.read_bytes(path, "the file")):
            output.result(line)


def check(
    policy: PolicyOption = None,
    authors_file: AuthorsOption = None,
    index_policy: IndexPolicyOption = None,
    ledger: LedgerOption = None,
    as_json: JsonOption = False,
) -> None:
    """\b
        pd policy check --policy court.policy --authors authors.txt --index-policy court.index.policy

    Say what a trust set-up means and where it is weak; with --ledger also whether the log meets it now.

    Exit code 0: nothing to say against it; 5: it has weaknesses (each with what to do), a part is missing, or the log
    does not meet it; 4: a file is malformed, or the log cannot be read.

    Python: plausible.ledger.notes.operators.weaknesses
    """
    words, found = review(policy, authors_file, index_policy, ledger)
    if as_json:
        body: dict[str, Any] = {"words": words, "weaknesses": [{"what": w.what, "remedy": w.remedy} for w in found]}
        output.document("plausible.policy-check/1", body)
    else:
        for line in words:
            output.result(line)
        _warn("trust", found)
    if found:
        raise typer.Exit(5)


def review(
    policy: Path | None, authors_file: Path | None, index_policy: Path | None, ledger: str | None, *, now: bool = True
) -> tuple[list[str], list[Weakness]]:
    """(what the trust set-up means, what is weak or missing in it); `now`: hold the named log against it too."""
    from ..ledger.absence.note import IndexPolicy
    from ..ledger.entries.authors import Authors
    from ..ledger.notes.operators import Weakness, describe, weaknesses
    from ..ledger.notes.policy import Policy

    words: list[str] = []
    found: list[Weakness] = []
    roles: list[tuple[str, VerifierKey]] = []
    path = settings.get("policy", policy)
    accept: Policy | None = None
    if path is None:
        missing = "no policy: the accused's own log would decide, and every verdict says self-attested"
        found.append(Weakness(missing, "pd policy make court.policy --log VKEY --witness VKEY ... --quorum K"))
    else:
        accept = Policy.parse(sources.read_bytes(path, "the policy"))
        words += describe(accept)
        found += weaknesses(accept)
        roles += [("log", log.key) for log in accept.logs] + [("witness", one.key) for one in accept.witnesses]
    path = settings.get("authors", authors_file)
    if path is None:
        missing = "no authors file: nobody says whose entries count"
        found.append(Weakness(missing, "pd policy authors authors.txt VKEY"))
    else:
        known = Authors.parse(sources.read_bytes(path, "the authors file"))
        words += _author_words(known)
        roles += [("author", author.key) for author in known.authors]
        if not known.authors:
            found.append(Weakness("the authors file names nobody", "pd policy authors authors.txt VKEY"))
    path = settings.get("index_policy", index_policy)
    if path is None:
        missing = "no index policy: absence is believed only after reading the whole log"
        found.append(Weakness(missing, "pd policy index court.index.policy --log VKEY --signer VKEY --quorum 1"))
    else:
        index = IndexPolicy.parse(sources.read_bytes(path, "the index policy")).policy
        words += describe(index, "An index root", "recomputed and signed it")
        found += weaknesses(index, index=True)
        roles += [("index", one.key) for one in (*index.logs, *index.witnesses)]
        names = {log.key.name for log in index.logs}
        if accept is not None and not any(f"{log.key.name}/index" in names for log in accept.logs):
            found.append(Weakness("policy and index policy name different logs", "make both for one log"))
    found += _shared(roles)
    if now and settings.get("ledger", ledger) is not None and accept is not None:
        found += _against(ledger, policy, words)
    return words, found


def _against(ledger: str | None, policy: Path | None, words: list[str]) -> list[Weakness]:
    """Whether the log that the settings name meets the policy now."""
    from datetime import UTC, datetime

    from ..ledger.notes.operators import Weakness
    from ..schemas.errors import PolicyError

    try:
        with sources.served(ledger, policy) as found:
            met = found.accepted
    except PolicyError as error:
        return [Weakness(f"{sources.place(ledger)}: {error}", "ask the log's operator, or wait for its witnesses")]
    if met is not None:
        signed = ", ".join(one.name for one in met.cosigners) or "nobody"
        time = met.existence_time
        when = f", since {datetime.fromtimestamp(time, UTC):%Y-%m-%d %H:%M:%S} UTC" if time is not None else ""
        words.append(f"{met.origin} meets it now: {met.size} entries, cosigned by {signed}{when}.")
    return []


def _shared(roles: list[tuple[str, VerifierKey]]) -> list[Weakness]:
    """Raw keys that serve two roles."""
    from ..ledger.notes.operators import Weakness

    seen: dict[bytes, tuple[str, VerifierKey]] = {}
    found: list[Weakness] = []
    for role, key in roles:
        other, name = seen.setdefault(key.public, (role, key))
        if other != role:
            what = f"the key of {key.name} serves as {role} and, as {name.name}, as {other}"
            found.append(Weakness(what, "a raw key serves one role only: ask its owner for another"))
    return found


def _author_words(known: Authors) -> list[str]:
    lines: list[str] = []
    for author in known.authors:
        gone = "".join(f", refused from entry {index} of {origin} on" for origin, index in author.refused_from)
        lines.append(f"Author {author.name}, key {author.key.key_id.hex()}{gone}.")
    return lines or ["No author is believed."]


def _words(data: bytes) -> list[str]:
    """What a file means, whichever of the three it is."""
    from ..ledger.absence.note import IndexPolicy
    from ..ledger.entries.authors import Authors
    from ..ledger.notes.operators import describe
    from ..ledger.notes.policy import Policy
    from ..schemas.errors import EvidenceError

    first = next((line.split()[0] for line in data.split(b"\n") if line.strip() and line.strip()[:1] != b"#"), b"")
    if first == b"author":
        return _author_words(Authors.parse(data))
    try:
        index = IndexPolicy.parse(data).policy
    except EvidenceError:
        return describe(Policy.parse(data))
    if index.logs:
        return describe(index, "An index root", "recomputed and signed it")
    return describe(index)


def _places(texts: list[str] | None) -> list[tuple[VerifierKey, str | None]]:
    """(key, address) of each text: `VKEY`, `VKEY URL`, or a file with one of them a line."""
    from ..ledger.notes.note import VerifierKey
    from ..schemas.errors import UsageError

    found: list[tuple[VerifierKey, str | None]] = []
    for text in texts or ():
        lines = [text]
        if Path(text).is_file():
            lines = sources.read_bytes(Path(text), "the file of keys", 1 << 20).decode("utf-8", "replace").splitlines()
        for line in lines:
            words = line.split()
            if not words or words[0].startswith("#"):
                continue
            if len(words) > 2:
                raise UsageError(f"{line[:80]!r} is not a verifier key and, at most, an address")
            found.append((VerifierKey.parse(words[0]), words[1] if len(words) == 2 else None))
    return found


def _warn(what: str, found: list[Weakness]) -> None:
    for weakness in found:
        output.result(f"weak: {what}: {weakness.what}")
        output.result(f"  -> {weakness.remedy}")
