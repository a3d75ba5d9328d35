"""Who stands behind a policy: operators, what their quorum can be relied on for, and all of it in words.

Witnesses of one operator are one witness: whoever holds both keys can misuse both. An operator is read from a key's
name, a URL without scheme: its host. Two hosts of one owner cannot be told apart from two owners here; a person must.

From which operators can meet the quorum follow three numbers: how many must lie together, how many may be away, and
whether two groups without a member in common can each meet it. If they can, a log can show each another history
although no witness breaks its promise.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from .note import VerifierKey
from .policy import Policy

MAX_OPERATORS = 16
"""Up to so many operators every combination is tried."""


def operator_of(key: VerifierKey) -> str:
    """The host in a key's name."""
    return key.name.split("/", 1)[0].split(":", 1)[0].lower()


@dataclass(frozen=True, slots=True)
class Quorum:
    """What a policy's quorum needs, in operators. `needed` None: no witness at all; the others None: too many to try.

    `needed` operators suffice, and no fewer; `spare` may be away, whichever they are; `split`: two groups of operators
    without a common member that each meet it.
    """

    operators: dict[str, tuple[str, ...]]
    """Operator -> short names of its witnesses."""
    needed: int | None
    spare: int | None
    split: tuple[tuple[str, ...], tuple[str, ...]] | None
    tried: bool


@dataclass(frozen=True, slots=True)
class Weakness:
    """Something a person should know before relying on a policy, and what to do about it."""

    what: str
    remedy: str


def quorum_of(policy: Policy) -> Quorum:
    """The operators of a policy's witnesses, and what they can do together."""
    operators: dict[str, list[str]] = {}
    for witness in policy.witnesses:
        operators.setdefault(operator_of(witness.key), []).append(witness.name)
    found = {name: tuple(members) for name, members in operators.items()}
    if policy.quorum is None:
        return Quorum(found, None, None, None, True)
    names = list(found)
    if len(names) > MAX_OPERATORS:
        return Quorum(found, 1, None, None, False)

    def members(mask: int) -> tuple[str, ...]:
        return tuple(names[bit] for bit in range(len(names)) if mask >> bit & 1)

    whole = (1 << len(names)) - 1
    enough = {
        mask
        for mask in range(whole + 1)
        if policy.satisfied_by(short for name in members(mask) for short in found[name])
    }
    needed = min((mask.bit_count() for mask in enough), default=len(names))
    missing = max((mask.bit_count() for mask in range(whole + 1) if mask not in enough), default=0)
    halves = next((mask for mask in sorted(enough, key=int.bit_count) if whole ^ mask in enough), None)
    split = None if halves is None else (members(halves), members(whole ^ halves))
    return Quorum(found, needed, len(names) - missing - 1, split, True)


def rule(policy: Policy) -> str:
    """The quorum in words: "2 of these 3: a (one.example), b (two.example), c (three.example)"."""
    if policy.quorum is None:
        return "no witness: the log's own signature is enough"
    shown = {w.name: f"{w.name} ({operator_of(w.key)})" for w in policy.witnesses}
    for group in policy.groups:
        members = ", ".join(shown[member] for member in group.members)
        count = len(group.members)
        if group.threshold == count:
            text = f"all of these {count}: {members}" if count > 1 else members
        elif group.threshold == 1:
            text = f"any one of these {count}: {members}"
        else:
            text = f"{group.threshold} of these {count}: {members}"
        shown[group.name] = text if group.name == policy.quorum else f"[{text}]"
    return shown[policy.quorum]


def describe(policy: Policy, what: str = "A checkpoint", verb: str = "cosigned it") -> list[str]:
    """A policy as sentences: which logs, whose word is asked for, what that is good for."""
    lines: list[str] = []
    for log in policy.logs:
        where = f", served at {log.url}" if log.url else ""
        lines.append(f"Log {log.key.name}, operator {operator_of(log.key)}, key {log.key.key_id.hex()}{where}.")
    if not policy.logs:
        lines.append("No log is believed: add a log line.")
    if len({log.key.name for log in policy.logs}) > 1:
        lines.append("Any one of these logs suffices.")
    found = quorum_of(policy)
    if policy.quorum is None:
        lines.append(f"{what} counts without any witness: only the log itself vouches for it.")
    else:
        lines.append(f"{what} counts once these have {verb}: {rule(policy)}.")
    for operator, names in found.operators.items():
        if len(names) > 1:
            lines.append(f"{', '.join(names)} are of one operator, {operator}: they are one witness.")
    if found.needed is not None and found.tried:
        together = "One operator alone" if found.needed == 1 else f"{found.needed} operators together"
        away = {0: "none may be away", 1: "any one may be away"}.get(found.spare or 0, f"any {found.spare} may be away")
        lines.append(f"{together} can vouch for what is false; {away}.")
    return lines


def weaknesses(policy: Policy, *, index: bool = False) -> list[Weakness]:
    """What a person should know about a policy (`index`: an index policy, whose quorum are recomputing signers)."""
    kind = "signers of the absence index" if index else "witnesses"
    found: list[Weakness] = []
    if not policy.logs:
        found.append(Weakness("it believes no log", "add a line: log VKEY [URL]"))
    quorum = quorum_of(policy)
    if quorum.needed is None:
        what = "only the log vouches: it can show everybody another history, and nothing dates an entry"
        if index:
            what = "only the log vouches for its absence index: worth nothing against the log's own developer"
        found.append(Weakness(what, f"name {kind} of other operators, and a quorum of more than half of them"))
        return found
    if not index:
        for witness in policy.witnesses:
            if not witness.key.timed:
                text = f"{witness.name} has a key that signs no time: its signatures never count"
                found.append(Weakness(text, "ask its operator for the cosignature key"))
    own = {operator_of(log.key) for log in policy.logs}
    for operator in quorum.operators:
        if operator in own:
            text = f"{', '.join(quorum.operators[operator])} is of the log's own operator, {operator}"
            found.append(Weakness(text, f"choose {kind} that do not belong to the log's operator"))
    if not quorum.tried:
        text = f"more than {MAX_OPERATORS} operators: their combinations were not tried"
        found.append(Weakness(text, "look at the groups yourself"))
        return found
    if quorum.split is not None and quorum.needed > 1:
        halves = " and ".join(" + ".join(half) for half in quorum.split)
        text = f"{halves} each meet the quorum: a log can show the two another history"
        found.append(Weakness(text, "ask for more than half of the operators"))
    if index:
        return found  # the log signs an index root too: one signer beside it is a second party already
    if quorum.needed == 1:
        text = "one operator alone meets the quorum" + ("" if len(quorum.operators) > 1 else ": there is only one")
        found.append(Weakness(text, "ask for a quorum of at least two operators"))
    if quorum.spare == 0:
        found.append(Weakness("every operator is needed: one that is away stops the log", "add one more, same quorum"))
    return found


def policy_text(
    logs: Sequence[tuple[VerifierKey, str | None]],
    witnesses: Sequence[tuple[VerifierKey, str | None]],
    quorum: int,
) -> bytes:
    """A tlog-policy in which `quorum` operators must sign: several keys of one name are all asked for, several names of
    one operator count as one. 0 is `quorum none`. Raises `EvidenceError` for what is no policy (`Policy.parse`).
    """
    lines = [f"log {key}{f' {url}' if url else ''}" for key, url in logs] + [""]
    operators: dict[str, dict[str, list[str]]] = {}
    taken: set[str] = {"none", "quorum"}
    for key, url in witnesses:
        short = _short(key, taken)
        operators.setdefault(operator_of(key), {}).setdefault(key.name, []).append(short)
        lines.append(f"witness {short} {key}{f' {url}' if url else ''}")
    top: list[str] = []
    for operator, names in operators.items():
        members: list[str] = []
        for name, shorts in names.items():
            members.append(_group(lines, taken, name.replace("/", "."), "all", shorts))
        top.append(_group(lines, taken, operator, "any", members))
    if quorum:
        lines += [f"group quorum {quorum} {' '.join(top)}", "quorum quorum"]
    else:
        lines.append("quorum none")
    text = ("\n".join(lines) + "\n").encode("utf-8")
    Policy.parse(text)
    return text


def _short(key: VerifierKey, taken: set[str]) -> str:
    return _free(operator_of(key).split(".", 1)[0] or "witness", taken)


def _group(lines: list[str], taken: set[str], name: str, rule: str, members: Sequence[str]) -> str:
    if len(members) == 1:
        return members[0]
    name = _free(name, taken)
    lines.append(f"group {name} {rule} {' '.join(members)}")
    return name


def _free(name: str, taken: set[str]) -> str:
    chosen, number = name, 1
    while chosen in taken:
        number += 1
        chosen = f"{name}-{number}"
    taken.add(chosen)
    return chosen


__all__ = [
    "MAX_OPERATORS",
    "Quorum",
    "Weakness",
    "describe",
    "operator_of",
    "policy_text",
    "quorum_of",
    "rule",
    "weaknesses",
]
