"""From findings to one verdict of the closed set: a pure function, in the order of docs/verdicts.md.

Unreadable; then what was given or found for the probe's own digests: refuted, logged, claimed; then derived,
attributed, deniable, inconclusive; `untrusted` only if nothing later decides. Absence of evidence is never success:
each condition of a denial that was not shown is a reason for `inconclusive` (or `incomplete`), and all of them are
given. `decide` reads no clock, no file and no model.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from ...schemas.verdict import Verdict
from .findings import CandidateFinding, ConfirmationFinding, Decision, EntryFinding, Findings, Scope

# A denial needs the residual beyond this many times the denial limit of the unprocessed class, and the residual up to a
# change beyond this many times the widest of the processed classes in the scope; in between, nothing is said.
DENIAL_MARGIN = 2.0
# An attribution limit drawn from negatives that are all far away would attribute what own pictures never give: it is
# cut at this many times the unprocessed denial limit. Own faces that were found end below 1.03 floors, faces of a clone
# whose weights moved by 0.1 % at 1.06 and more, never exactly (decision 0015).
ATTRIBUTION_REACH = 1.03
# A search that got stuck looks like a picture of somebody else's: 2 of 500 own faces would have been denied after one
# search, and most other random starts found them. So a denial rests on this many searches, all of which came no nearer.
DENIAL_SEARCHES = 3
# The largest failure bound with which a denial is given.
LARGEST_FAILURE_BOUND = 0.10
UNPROCESSED = "unprocessed"


def decide(findings: Findings, scope: Scope) -> Decision:
    """The verdict on one probe."""
    if findings.unreadable is not None:
        return Decision(Verdict.INCOMPLETE, findings.unreadable, "image", (findings.unreadable,))
    self_attested = findings.trust != "policy"
    decision = (
        _by_entries(findings)
        or _by_coverage(findings)
        or _by_copies(findings)
        or _by_candidates(findings)
        or _without(findings, scope)
    )
    if not self_attested:
        return decision
    undecided = decision.verdict in (Verdict.INCONCLUSIVE, Verdict.INCOMPLETE)
    line = decision.line if undecided else f"self-attested: {decision.line}"
    return replace(decision, line=line, self_attested=True)


# --- 1, 0, 6 -----------------------------------------------------------------------------------------------------


def _own(findings: Findings) -> list[EntryFinding]:
    """Entries about this image by authors who are accused: anyone may log anything, so others' are listed only."""
    return [e for e in findings.entries if e.matches is not None and e.accused]


def _by_entries(findings: Findings) -> Decision | None:
    entries = _own(findings)
    for entry in entries:
        if entry.contradiction is not None:
            return Decision(Verdict.REFUTED, entry.contradiction, "evidence", (_where(entry), entry.contradiction))
        if entry.replay == "contradicts":
            line = "two equal replays under the record's own environment give another picture than the entry's"
            return Decision(Verdict.REFUTED, line, "replay", (_where(entry), line))
    accepted = [e for e in entries if e.distrust is None]
    short = [(e, _short_of_logged(e, findings)) for e in accepted]
    for entry, missing in short:
        if not missing:
            how = "sample for sample" if entry.replay == "exact" else "within the author's tolerance"
            line = f"logged by {entry.author} as {_where(entry)}, replayed {how}"
            return Decision(Verdict.LOGGED, line, "replay", (line,), model=entry.model, author=entry.author)
    for entry, missing in short:
        if entry.file_copy is not True:
            line = f"{entry.author} logged it as {_where(entry)}, but {missing[0]}"
            return Decision(Verdict.CLAIMED, line, "evidence", missing, model=entry.model, author=entry.author)
    for entry, _ in short:
        line = (
            f"this very file was logged by {entry.author} as {_where(entry)}; its picture is a JPEG of the replayed one"
        )
        return Decision(Verdict.DERIVED, line, "replay", (line,), model=entry.model, author=entry.author)
    return None


def _short_of_logged(entry: EntryFinding, findings: Findings) -> tuple[str, ...]:
    """Which conditions of `logged` are not met, in words; empty if all are."""
    missing: list[str] = []
    if not entry.opened:
        missing.append("its record was not opened")
    elif entry.replay is None:
        missing.append("it was not replayed")
    elif entry.replay == "different":
        missing.append("its replay here differs from this picture")
    if entry.opened and entry.uncounted is not None:
        missing.append(f"its inputs do not count: {entry.uncounted}")
    if not entry.model_registered:
        missing.append("no model:v1 entry of that author precedes it")
    if findings.trust == "none":
        missing.append("no policy and no authors were given and the ledger is not your own: only the accused vouches")
    return tuple(missing)


def _where(entry: EntryFinding) -> str:
    place = "an entry" if entry.index is None else f"entry {entry.index}"
    return f"{place} of {entry.origin}"


def _by_coverage(findings: Findings) -> Decision | None:
    if findings.coverage.state != "contradiction":
        return None
    reason = findings.coverage.reason
    return Decision(Verdict.REFUTED, reason, "coverage", (reason,))


# --- 10, 11 ------------------------------------------------------------------------------------------------------


def _by_copies(findings: Findings) -> Decision | None:
    copies = findings.copies
    if copies.found is None or copies.distrust is not None:
        return None
    line = f"a changed copy of {copies.found}"
    if copies.residual == 0:
        line += " (every sample equal)"
    elif copies.residual is not None and copies.limit is not None:
        line += f" (residual {copies.residual:.2e}, limit {copies.limit:.2e})"
    elif copies.residual is not None:
        line += f" (residual {copies.residual:.2e})"
    return Decision(Verdict.DERIVED, line, "changed copies", (line,))


def _by_candidates(findings: Findings) -> Decision | None:
    """Attribution: an exact reproduction first, of a changed copy next, then what is deepest below its limit."""
    if findings.flat is not None:
        return None
    exact = [c for c in findings.candidates if c.state == "inverted" and c.exact and c.uncounted is None]
    if exact:
        others = [c.name for c in exact[1:]]
        how = f"a latent of it gives every 8-bit sample of the {'mirrored ' * exact[0].mirrored}picture"
        return _attributed(exact[0], how, others)
    confirmed = _by_confirmations(findings, exact=True)
    if confirmed is not None:
        return confirmed
    within = [(c.residual / limit, c, limit) for c in findings.candidates if (limit := _attribution_limit(c)) and
              c.residual is not None and c.residual <= limit]  # fmt: skip
    if not within:
        return _by_confirmations(findings, exact=False)
    within.sort(key=lambda item: item[0])
    _, best, limit = within[0]
    how = f"residual {best.residual:.2e} within its attribution limit {limit:.2e}{_strength(best)}"
    return _attributed(best, how, [c.name for _, c, _ in within[1:]])


def _by_confirmations(findings: Findings, *, exact: bool) -> Decision | None:
    """A candidate whose picture, after one very chain of changes, is the probe; or nearly, within its limit."""
    found = [
        (chain.statistic / (chain.limit or 1.0), c, chain)
        for c in findings.candidates
        if c.state == "inverted"
        for chain in c.confirmations
        if (chain.exact if exact else _within(chain))
    ]
    if not found:
        return None
    found.sort(key=lambda item: item[0])
    _, best, chain = found[0]
    if exact:
        how = f"its picture, {chain.change}, gives all {chain.samples:,} {chain.unit}"
    else:
        how = (
            f"its picture, {chain.change}, comes within {chain.statistic:.3f} of what the roundings of such a copy "
            f"leave (limit {chain.limit:.3f}; {chain.differences:,} of {chain.samples:,} {chain.unit} differ)"
        )
    return _attributed(best, how, list(dict.fromkeys(c.name for _, c, _ in found[1:] if c is not best)))


def _within(chain: ConfirmationFinding) -> bool:
    return chain.uncounted is None and chain.limit is not None and chain.statistic <= chain.limit


def attribution_limit(attribution: float | None, denial: float | None) -> float | None:
    """The limit that counts for the unprocessed class: of the calibration's negatives, cut at ATTRIBUTION_REACH."""
    if attribution is None or denial is None:
        return None
    return min(attribution, ATTRIBUTION_REACH * denial)


def _attribution_limit(candidate: CandidateFinding) -> float | None:
    """Only the unprocessed limit separates a generator from its clones; a resized probe is not unprocessed."""
    if candidate.state != "inverted" or candidate.calibration is not None or candidate.resized:
        return None
    if candidate.unlike:  # nearly another's: a clone by a thousandth lies at the floor too
        return None
    if candidate.uncounted is not None:  # a latent as large as the picture comes close to anything
        return None
    limits = candidate.limits.get(UNPROCESSED)
    return None if limits is None else attribution_limit(limits.attribution, limits.denial)


def _strength(candidate: CandidateFinding) -> str:
    if candidate.log10_lr is None:
        return ""
    at_cap = candidate.log10_lr_cap is not None and candidate.log10_lr >= candidate.log10_lr_cap
    return f", log10 likelihood ratio {'at least ' if at_cap else ''}{candidate.log10_lr:.2f}"


def _attributed(candidate: CandidateFinding, how: str, others: list[str]) -> Decision:
    whose = f"by {candidate.author}" if candidate.author else "by the auditor"
    line = f"generator {candidate.name} ({candidate.model[:19]}), registered {whose}, reproduces it: {how}"
    reasons = [line]
    if others:
        reasons.append(f"so do, within their own limits: {', '.join(others)}")
    return Decision(
        Verdict.ATTRIBUTED, line, "inversion", tuple(reasons), model=candidate.model, author=candidate.author,
        model_name=candidate.name,
    )  # fmt: skip


# --- 12, 3, 4, 5 -------------------------------------------------------------------------------------------------


def _without(findings: Findings, scope: Scope) -> Decision:
    """Nothing positive was found: a denial if every condition of one holds, else what is missing."""
    undone = list(_undone(findings))
    missing = list(_missing_for_denial(findings, scope))
    distrusted = [f"{_where(e)}: {e.distrust}" for e in _own(findings) if e.distrust is not None]
    if findings.copies.distrust is not None:
        distrusted.append(findings.copies.distrust)
    if distrusted:
        return Decision(Verdict.UNTRUSTED, distrusted[0], "evidence", (*distrusted, *undone, *missing))
    if findings.flat is not None:
        return Decision(Verdict.INCONCLUSIVE, findings.flat, "image", (findings.flat, *undone))
    if undone:
        return Decision(Verdict.INCOMPLETE, undone[0], "inversion", (*undone, *missing))
    if missing:
        return Decision(Verdict.INCONCLUSIVE, missing[0], "inversion", tuple(missing))
    error = max(c.limits[name].failure_bound for c in findings.candidates for name in _wanted(c, scope))
    logs = "; ".join(f"the first {size} entries of {origin}" for origin, size in findings.coverage.logs)
    line = f"no registered generator reproduces it (scope {scope.name}, error at most {100 * error:.1f} %)"
    return Decision(Verdict.DENIABLE, line, "inversion", (line, f"absent from {logs}"), error=error)


def _undone(findings: Findings) -> Iterable[str]:
    yield from findings.incomplete
    for c in findings.candidates:
        if c.state == "missing":
            yield f"the weights of {c.name} ({c.model[:19]}) are missing: {c.reason}"
        elif c.state in ("failed", "budget"):
            yield f"{c.name} could not be inverted: {c.reason}"


def denial_pending(findings: Findings, scope: Scope) -> bool:
    """Whether nothing but further searches from other random starts stands between these findings and a denial."""
    searched = tuple(replace(c, searches=max(c.searches, DENIAL_SEARCHES)) for c in findings.candidates)
    if searched == findings.candidates:
        return False
    return decide(replace(findings, candidates=searched), scope).verdict is Verdict.DENIABLE


def _missing_for_denial(findings: Findings, scope: Scope) -> Iterable[str]:
    """Each condition of `deniable` (design: absence, changed copies, generators, limits) that was not shown."""
    if findings.trust == "none":
        yield "no policy and no authors were given and the ledger is not your own: absence rests on the accused alone"
    if any(e.contradiction is None for e in _own(findings)):
        yield "an accused author's entry names this very image"
    if findings.coverage.state != "absent":
        yield f"coverage unknown: {findings.coverage.reason}"
    if findings.latent_of is not None:
        yield f"the latent recovered by inversion is that of {findings.latent_of}"
    if not findings.copies.ran:
        yield f"changed copies of logged pictures were not searched: {findings.copies.reason}"
    if not findings.candidates:
        yield "no generator is registered"
    for c in findings.candidates:
        if c.state == "inverted":
            yield from _why_not_denied(c, scope)
        elif c.state == "skipped":
            yield f"{c.name} was not inverted: {c.reason}"


def _why_not_denied(c: CandidateFinding, scope: Scope) -> Iterable[str]:
    if c.exact:
        yield f"{c.name} gives every sample, but that does not count: {c.uncounted}"
        return
    if c.residual is None:
        yield f"{c.name} gave no residual"
        return
    if c.free:
        yield f"{c.name} {c.free}"
        return
    if c.unlike:
        yield f"{c.name} {c.unlike}"
        return
    if c.free_noise:
        yield (
            f"{c.name} takes {c.free_noise} free numbers in noise maps beside its latent, which were not searched: "
            "with other maps it gives other pictures"
        )
        return
    if c.calibration is not None:
        yield f"{c.name}: {c.calibration}"
        return
    if c.resized and scope.name == "strict":
        yield f"{c.name} makes pictures of another size, and the strict scope is about these very pixels"
        return
    wanted = _wanted(c, scope)
    absent = [name for name in wanted if name not in c.limits]
    if absent:
        yield f"{c.name} is not calibrated for {', '.join(absent)}"
        return
    processed = [name for name in wanted if name != UNPROCESSED]
    if UNPROCESSED in wanted:
        yield from _too_near(c, c.residual, [UNPROCESSED], "")
    if processed and c.changed is None:
        yield f"{c.name} was not inverted up to the changes that the scope allows"
    elif c.changed is not None:
        # no change at all is one of the changes: the nearer of both counts, which can only make a denial harder
        how = f" up to a change ({c.change})" if c.changed < c.residual else ""
        yield from _too_near(c, min(c.changed, c.residual), processed, how)
    if c.again is not None:
        # whatever the change: nearer than the widest limit of the scope's classes is too near
        yield from _too_near(c, c.again, wanted, " in a further search")
    if c.searches < DENIAL_SEARCHES:
        yield f"{c.name} was searched {c.searches} times from random starts, a denial needs {DENIAL_SEARCHES}"
    for name in wanted:
        bound = c.limits[name].failure_bound
        if not bound <= LARGEST_FAILURE_BOUND:
            yield (
                f"{c.name}: the inversion of own pictures after {name} may fail in {100 * bound:.1f} % of cases "
                f"(95 % bound), more than {100 * LARGEST_FAILURE_BOUND:.0f} %"
            )


def near_again(c: CandidateFinding, scope: Scope) -> bool:
    """Whether a search after the first came near enough to bar a denial."""
    wanted = [name for name in _wanted(c, scope) if name in c.limits]
    return c.again is not None and any(True for _ in _too_near(c, c.again, wanted, ""))


def _too_near(c: CandidateFinding, residual: float, classes: Sequence[str], how: str) -> Iterable[str]:
    """Why a residual denies nothing by the limits of classes that were inverted alike."""
    if not classes:
        return
    widest, denial = max(((name, c.limits[name].denial) for name in classes), key=lambda pair: pair[1])
    if residual <= denial:
        yield (
            f"{c.name} comes within {residual:.2e}{how}, where its own pictures after {widest} lie "
            f"(limit {denial:.2e}), but not within its attribution limit"
        )
    elif residual <= DENIAL_MARGIN * denial:
        yield (
            f"{c.name} comes within {residual:.2e}{how}, less than {DENIAL_MARGIN:g} times the denial limit "
            f"{denial:.2e} of {widest}"
        )


def _wanted(c: CandidateFinding, scope: Scope) -> list[str]:
    """The classes whose limits count: the scope's, and the resizing the probe needed before it could be compared."""
    return list(dict.fromkeys((*scope.classes, *(scope.resized if c.resized else ()))))
