"""The verdict as a function of findings: one row a rule, then every combination against the precedence itself."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace

import pytest
from plausible.attribution.stages.decide import (
    DENIAL_MARGIN,
    DENIAL_SEARCHES,
    LARGEST_FAILURE_BOUND,
    decide,
    denial_pending,
    near_again,
)
from plausible.attribution.stages.findings import (
    CandidateFinding,
    ClassLimits,
    CopyFinding,
    Coverage,
    EntryFinding,
    Findings,
    Scope,
)
from plausible.schemas.verdict import Verdict

STRICT = Scope("strict", ("unprocessed",))
RELAXED = Scope("relaxed", ("unprocessed", "jpeg", "crop"), resized=("resized",))
ABSENT = Coverage("absent", (("log.example/studio", 64),))
SEARCHED = CopyFinding(True, pictures=64)
LIMITS = {
    "unprocessed": ClassLimits(denial=2e-6, attribution=3e-6, failure_bound=0.05, n=100),
    "jpeg": ClassLimits(denial=5e-4, attribution=None, failure_bound=0.098, n=29),
    "crop": ClassLimits(denial=1e-3, attribution=None, failure_bound=0.098, n=29),
    "resized": ClassLimits(denial=2e-3, attribution=None, failure_bound=0.098, n=29),
}
FAR = CandidateFinding(
    "sha256:" + "a" * 64,
    "faces",
    True,
    "inverted",
    residual=1e-2,
    changed=1e-2,
    limits=LIMITS,
    author="studio",
    searches=DENIAL_SEARCHES,
    again=1.1e-2,
)
ENTRY = EntryFinding(
    origin="log.example/studio", index=7, author="studio", accused=True, matches="pixels", opened=True, replay="exact",
    model_registered=True,
)  # fmt: skip
DENIABLE = Findings("policy", coverage=ABSENT, copies=SEARCHED, candidates=(FAR,))


def verdict(findings: Findings, scope: Scope = RELAXED) -> Verdict:
    return decide(findings, scope).verdict


def entry(**changes: object) -> Findings:
    return replace(DENIABLE, entries=(replace(ENTRY, **changes),))  # type: ignore[arg-type]


def candidate(**changes: object) -> Findings:
    """The candidate of a denial with these changes; a residual given is both inversions'."""
    if "residual" in changes:
        changes = {"changed": changes["residual"], **changes}
    return replace(DENIABLE, candidates=(replace(FAR, **changes),))  # type: ignore[arg-type]


ROWS = [
    ("everything shown", DENIABLE, Verdict.DENIABLE),
    ("unreadable", Findings("policy", unreadable="not an image"), Verdict.INCOMPLETE),
    ("unreadable beats an entry", replace(entry(), unreadable="mode CMYK is refused"), Verdict.INCOMPLETE),
    ("logged", entry(), Verdict.LOGGED),
    ("logged within tolerance", entry(replay="tolerance"), Verdict.LOGGED),
    ("not opened", entry(opened=False, replay=None), Verdict.CLAIMED),
    ("not replayed", entry(replay=None), Verdict.CLAIMED),
    ("differs elsewhere", entry(replay="different"), Verdict.CLAIMED),
    ("only free inputs", entry(uncounted="latent captured, 12288 numbers for 12288 samples"), Verdict.CLAIMED),
    ("model not registered before", entry(model_registered=False), Verdict.CLAIMED),
    ("contradiction", entry(contradiction="the opening does not match the commitment"), Verdict.REFUTED),
    ("two equal replays differ", entry(replay="contradicts"), Verdict.REFUTED),
    ("untrusted entry, nothing decides", entry(distrust="1 of 2 cosignatures"), Verdict.UNTRUSTED),
    ("another author's entry is no stop", entry(accused=False), Verdict.DENIABLE),
    ("another author's contradiction is none", entry(accused=False, contradiction="bad signature"), Verdict.DENIABLE),
    ("evidence for another image is no stop", entry(matches=None), Verdict.DENIABLE),
    ("another image's contradiction is no stop", entry(matches=None, contradiction="x"), Verdict.DENIABLE),
    ("file match, JPEG of the replay", entry(matches="file", replay="different", file_copy=True), Verdict.DERIVED),
    ("file match, beyond the limit", entry(matches="file", replay="different", file_copy=False), Verdict.CLAIMED),
    ("edited log", replace(DENIABLE, coverage=Coverage("contradiction", (), "entry 3 ...")), Verdict.REFUTED),
    ("intact entry in an edited log", replace(entry(), coverage=Coverage("contradiction", (), "x")), Verdict.LOGGED),
    ("copy", replace(DENIABLE, copies=CopyFinding(True, 64, found="entry 3 by mirror")), Verdict.DERIVED),
    ("copy of an untrusted entry", replace(DENIABLE, copies=CopyFinding(True, 64, found="x", distrust="no quorum")),
     Verdict.UNTRUSTED),
    ("exact without calibration", candidate(exact=True, residual=1.2e-6, calibration="none", limits={}),
     Verdict.ATTRIBUTED),
    ("exact, but the latent is as large as the image", candidate(exact=True, residual=1e-6, uncounted="12288 numbers"),
     Verdict.INCONCLUSIVE),
    ("within the attribution limit", candidate(residual=2.05e-6), Verdict.ATTRIBUTED),
    ("where a clone of 0.1 % lies", candidate(residual=2.2e-6), Verdict.INCONCLUSIVE),
    ("beyond ten denial limits, whatever the negatives say", candidate(residual=2.1e-5, limits=LIMITS | {
        "unprocessed": replace(LIMITS["unprocessed"], attribution=0.1)}), Verdict.INCONCLUSIVE),
    ("between unprocessed and class limits", candidate(residual=2e-4), Verdict.INCONCLUSIVE),
    ("between one and two widest limits", candidate(residual=1.5e-3), Verdict.INCONCLUSIVE),
    ("just beyond two widest limits", candidate(residual=DENIAL_MARGIN * 1e-3 * 1.0001), Verdict.DENIABLE),
    ("resized: within unprocessed attributes nothing", candidate(residual=2.05e-6, resized=True), Verdict.INCONCLUSIVE),
    ("resized: its class counts too", candidate(residual=3e-3, resized=True), Verdict.INCONCLUSIVE),
    ("resized: beyond", candidate(residual=5e-3, resized=True), Verdict.DENIABLE),
    ("processed limits are for the residual up to a change", candidate(changed=2e-4), Verdict.INCONCLUSIVE),
    ("up to a change, between one and two limits", candidate(changed=1.5e-3), Verdict.INCONCLUSIVE),
    ("a changed residual attributes nothing", candidate(changed=2e-6), Verdict.INCONCLUSIVE),
    ("the nearer of both residuals counts", candidate(residual=2e-4, changed=5e-3), Verdict.INCONCLUSIVE),
    ("changes not looked for", candidate(changed=None), Verdict.INCONCLUSIVE),
    ("no calibration", candidate(calibration="no calibration for this budget"), Verdict.INCONCLUSIVE),
    ("a class missing", candidate(limits={"unprocessed": LIMITS["unprocessed"]}), Verdict.INCONCLUSIVE),
    ("fails too often", candidate(limits=LIMITS | {"jpeg": replace(LIMITS["jpeg"], failure_bound=0.12)}),
     Verdict.INCONCLUSIVE),
    ("failure bound not a number", candidate(limits=LIMITS | {"jpeg": replace(LIMITS["jpeg"], failure_bound=math.nan)}),
     Verdict.INCONCLUSIVE),
    ("weights missing", candidate(state="missing", residual=None, reason="no folder"), Verdict.INCOMPLETE),
    ("out of budget", candidate(state="budget", residual=None, reason="stopped"), Verdict.INCOMPLETE),
    ("no generator registered", replace(DENIABLE, candidates=()), Verdict.INCONCLUSIVE),
    ("coverage unknown", replace(DENIABLE, coverage=Coverage("unknown", (), "offline")), Verdict.INCONCLUSIVE),
    ("copies not searched", replace(DENIABLE, copies=CopyFinding(False, reason="no vault")), Verdict.INCONCLUSIVE),
    ("coverage unknown, yet reproduced", replace(candidate(residual=2e-6), coverage=Coverage("unknown")),
     Verdict.ATTRIBUTED),
    ("flat", replace(DENIABLE, flat="flat probe", candidates=()), Verdict.INCONCLUSIVE),
    ("flat, weights missing", replace(candidate(state="missing"), flat="flat probe"), Verdict.INCONCLUSIVE),
    ("flat, exact", replace(candidate(exact=True), flat="flat probe"), Verdict.INCONCLUSIVE),
    ("network failed", replace(DENIABLE, incomplete=("no answer",)), Verdict.INCOMPLETE),
    ("only the accused vouches", replace(DENIABLE, trust="none"), Verdict.INCONCLUSIVE),
    ("only the accused vouches: no exit 0", replace(entry(), trust="none"), Verdict.CLAIMED),
    ("the ledger is one's own", replace(entry(), trust="own"), Verdict.LOGGED),
]  # fmt: skip


@pytest.mark.parametrize(("findings", "expected"), [row[1:] for row in ROWS], ids=[row[0] for row in ROWS])
def test_one_rule(findings: Findings, expected: Verdict) -> None:
    assert verdict(findings) == expected


def test_strict_denies_what_relaxed_leaves_open() -> None:
    # a fine-tuned clone's face: beyond the unprocessed limit, where the own JPEGs lie
    clone = candidate(residual=1.8e-4)
    assert verdict(clone, STRICT) == Verdict.DENIABLE
    assert verdict(clone, RELAXED) == Verdict.INCONCLUSIVE
    assert verdict(candidate(residual=1e-2, resized=True), STRICT) == Verdict.INCONCLUSIVE


def test_the_line_of_a_denial_bounds_its_error_and_never_says_innocent() -> None:
    decision = decide(DENIABLE, RELAXED)
    assert decision.line == "no registered generator reproduces it (scope relaxed, error at most 9.8 %)"
    assert decision.error == 0.098
    assert "the first 64 entries of log.example/studio" in decision.reasons[1]


def test_without_a_policy_the_line_is_self_attested() -> None:
    decision = decide(replace(entry(), trust="own"), RELAXED)
    assert decision.self_attested
    assert decision.line.startswith("self-attested: ")
    assert not decide(entry(), RELAXED).self_attested


def test_an_author_is_named_only_if_the_model_was_registered_before() -> None:
    named = decide(candidate(exact=True), RELAXED)
    assert (named.author, "by studio" in named.line) == ("studio", True)
    unnamed = decide(candidate(exact=True, author=None), RELAXED)
    assert (unnamed.author, "by the auditor" in unnamed.line) == (None, True)


def test_the_deepest_residual_is_attributed_and_the_others_are_named() -> None:
    near = replace(FAR, residual=2.05e-6)
    clone = replace(FAR, model="sha256:" + "b" * 64, name="clone", residual=1.3e-6)
    decision = decide(replace(DENIABLE, candidates=(near, clone)), RELAXED)
    assert (decision.model, decision.model_name) == (clone.model, "clone")
    assert "faces" in decision.reasons[1]


def test_every_reason_is_given() -> None:
    findings = Findings("policy", copies=CopyFinding(False, reason="no vault"), candidates=())
    decision = decide(findings, RELAXED)
    assert decision.verdict == Verdict.INCONCLUSIVE
    assert len(decision.reasons) == 3


ENTRY_STATES = {
    None: (),
    Verdict.REFUTED: (replace(ENTRY, contradiction="the claim"),),
    Verdict.LOGGED: (ENTRY,),
    Verdict.CLAIMED: (replace(ENTRY, opened=False, replay=None),),
    Verdict.UNTRUSTED: (replace(ENTRY, distrust="no quorum"),),
}
COPY_STATES = {
    None: SEARCHED,
    "not run": CopyFinding(False, reason="no vault"),
    Verdict.DERIVED: CopyFinding(True, 64, found="entry 3 by mirror"),
}
CANDIDATE_STATES = {
    Verdict.DENIABLE: FAR,
    Verdict.ATTRIBUTED: replace(FAR, residual=1.3e-6),
    "exact": replace(FAR, residual=1.3e-6, exact=True, calibration="another engine", limits={}),
    Verdict.INCONCLUSIVE: replace(FAR, residual=4e-4),
    "uncalibrated": replace(FAR, calibration="none"),
    "missing": replace(FAR, state="missing", residual=None),
}


@pytest.mark.parametrize("scope", [STRICT, RELAXED], ids=["strict", "relaxed"])
def test_precedence_over_every_combination(scope: Scope) -> None:
    """The order of the design, written a second time, over all combinations of what the stages may say."""
    combinations = itertools.product(
        (None, "bad"), itertools.permutations(ENTRY_STATES, 2), COPY_STATES, CANDIDATE_STATES, ("absent", "unknown"),
        (None, "flat"), ("policy", "own", "none"),
    )  # fmt: skip
    count = 0
    for unreadable, entries, copy, who, coverage, flat, trust in combinations:
        findings = Findings(
            trust=trust, unreadable=unreadable, entries=tuple(e for key in entries for e in ENTRY_STATES[key]),
            coverage=Coverage(coverage, (("log", 1),), "why"), copies=COPY_STATES[copy],
            candidates=(CANDIDATE_STATES[who],), flat=flat,
        )  # fmt: skip
        got = verdict(findings, scope)
        count += 1
        if unreadable:
            expected = Verdict.INCOMPLETE
        elif Verdict.REFUTED in entries:
            expected = Verdict.REFUTED
        elif Verdict.LOGGED in entries and trust != "none":
            expected = Verdict.LOGGED
        elif Verdict.CLAIMED in entries or Verdict.LOGGED in entries:
            expected = Verdict.CLAIMED
        elif copy == Verdict.DERIVED:
            expected = Verdict.DERIVED
        elif who in (Verdict.ATTRIBUTED, "exact") and not flat:
            expected = Verdict.ATTRIBUTED
        elif Verdict.UNTRUSTED in entries:
            expected = Verdict.UNTRUSTED
        elif flat:
            expected = Verdict.INCONCLUSIVE
        elif who == "missing":
            expected = Verdict.INCOMPLETE
        elif (
            coverage == "unknown" or copy == "not run" or trust == "none" or who == "uncalibrated"
            or (who == Verdict.INCONCLUSIVE and scope is RELAXED)
        ):  # fmt: skip
            expected = Verdict.INCONCLUSIVE
        else:
            expected = Verdict.DENIABLE
        assert got == expected, (unreadable, entries, copy, who, coverage, flat, trust, got, expected)
    assert count > 8000


def test_no_combination_denies_without_every_condition() -> None:
    """Take away one condition of the denial at a time: none of the results is `deniable` or `logged`."""
    lacking = [
        replace(DENIABLE, coverage=Coverage("unknown")), replace(DENIABLE, coverage=Coverage("present")),
        replace(DENIABLE, copies=CopyFinding(False)), replace(DENIABLE, candidates=()), replace(DENIABLE, trust="none"),
        candidate(calibration="foreign"), candidate(residual=None), candidate(residual=2e-3), candidate(limits={}),
        candidate(state="missing"), candidate(state="failed"), candidate(state="budget"), candidate(state="skipped"),
        candidate(limits={k: replace(v, failure_bound=LARGEST_FAILURE_BOUND * 1.01) for k, v in LIMITS.items()}),
        replace(DENIABLE, latent_of="entry 3"), replace(DENIABLE, flat="flat"),
        replace(DENIABLE, incomplete=("no answer",)), entry(distrust="no quorum"),
        replace(DENIABLE, candidates=(FAR, replace(FAR, state="missing"))),
        replace(DENIABLE, candidates=(FAR, replace(FAR, residual=1e-3))),
    ]  # fmt: skip
    for findings in lacking:
        assert verdict(findings) not in (Verdict.DENIABLE, Verdict.LOGGED), findings


# --- further searches before a denial ---


def test_at_the_floor_but_in_too_many_samples_different_is_nobodys() -> None:
    near = candidate(residual=1.5e-6, again=None, searches=1)
    assert verdict(near) is Verdict.ATTRIBUTED
    relative = candidate(residual=1.5e-6, again=None, searches=1, unlike="464 of 12288 samples differ")
    assert verdict(relative) is Verdict.INCONCLUSIVE
    assert any("464 of 12288" in reason for reason in decide(relative, RELAXED).reasons)
    assert verdict(candidate(residual=1.5e-6, exact=True, unlike="")) is Verdict.ATTRIBUTED


def test_live_noise_maps_bar_a_denial_and_attribute_nothing() -> None:
    """004 III-D: with other maps such a generator gives other pictures, and only latents were searched."""
    found = decide(candidate(free_noise=10_912), STRICT)
    assert found.verdict is Verdict.INCONCLUSIVE
    assert "10912 free numbers in noise maps" in found.line
    assert not denial_pending(candidate(free_noise=10_912, searches=1), STRICT)  # no further search would help


def test_one_search_is_no_denial_and_says_so() -> None:
    once = candidate(searches=1, again=None)
    assert denial_pending(once, RELAXED) and not denial_pending(DENIABLE, RELAXED)
    decision = decide(once, RELAXED)
    assert decision.verdict is Verdict.INCONCLUSIVE
    assert any("searched 1 times" in reason for reason in decision.reasons)


def test_a_further_search_that_comes_near_bars_the_denial_and_attributes_nothing() -> None:
    for searches in (2, DENIAL_SEARCHES):
        near = candidate(searches=searches, again=2e-6)
        assert verdict(near) is Verdict.INCONCLUSIVE
        assert near_again(near.candidates[0], RELAXED)
        assert any("in a further search" in reason for reason in decide(near, RELAXED).reasons)
    margin = DENIAL_MARGIN * LIMITS["crop"].denial
    assert verdict(candidate(again=margin)) is Verdict.INCONCLUSIVE
    assert verdict(candidate(again=math.nextafter(margin, 1))) is Verdict.DENIABLE
    # under strict the limit is that of unprocessed pictures
    assert verdict(candidate(again=1e-4), STRICT) is Verdict.DENIABLE
    assert verdict(candidate(again=3e-6), STRICT) is Verdict.INCONCLUSIVE


def test_further_searches_are_made_only_where_a_denial_waits_for_them() -> None:
    once = replace(FAR, searches=1, again=None)
    for findings in (
        entry(),
        candidate(residual=2e-6, searches=1, again=None),
        candidate(searches=1, again=None, limits={}),
        replace(DENIABLE, candidates=(once,), copies=CopyFinding(False)),
        replace(DENIABLE, candidates=(once,), coverage=Coverage("unknown")),
        replace(DENIABLE, candidates=()),
    ):
        assert not denial_pending(findings, RELAXED)
