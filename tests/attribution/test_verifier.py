"""The verifier end to end on a real ledger and a real (tiny) generator: every verdict by real input."""

from __future__ import annotations

import io
import shutil
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image as Pillow
from plausible.attribution.copies.transformation import as_jpeg
from plausible.attribution.logs.sources import EvidenceFiles
from plausible.attribution.stages.blank import without_evidence
from plausible.attribution.stages.candidate import Settings
from plausible.attribution.stages.candidates import invert_candidates, search_again
from plausible.attribution.stages.decide import DENIAL_SEARCHES, decide
from plausible.attribution.stages.findings import CopyFinding, Coverage, Findings
from plausible.attribution.verifier import Options, Verifier, verify, verify_batch
from plausible.ledger import Ledger
from plausible.ledger.absence.note import IndexHead, IndexPolicy
from plausible.ledger.absence.prove import publish, recompute
from plausible.ledger.notes.checkpoint import Checkpoint
from plausible.ledger.notes.note import COSIGNATURE_ED25519, ED25519, Note, SignerKey
from plausible.ledger.seeds.committed import derive, latent
from plausible.schemas import jcs
from plausible.schemas.errors import SetupError, UsageError
from plausible.schemas.record import REPLAY_FIELDS
from plausible.schemas.text import parse_digest
from plausible.schemas.verdict import Verdict, worst

from tests.attribution.studio import (
    AUTHOR,
    BUDGET,
    LATENT,
    Pixels,
    Studio,
    blocks,
    calibrate_folder,
    fresh,
    make_studio,
    model_folder,
    save,
)

STRICT = Options(scope="strict", budget=BUDGET, threads=1)
RELAXED = Options(scope="relaxed", budget=BUDGET, threads=1)


def files(studio: Studio, number: int, *, opening: bool = True) -> EvidenceFiles:
    """The evidence of one logged picture, as a developer hands it out."""
    with Ledger.open(studio.path, mode="read") as ledger:
        index = studio.indices[number]
        return EvidenceFiles(
            f"{number}.tlog-proof", ledger.proof(index),
            ledger.opening(index, (*REPLAY_FIELDS, "tolerance")) if opening else None,
        )  # fmt: skip


def model_evidence(studio: Studio) -> EvidenceFiles:
    with Ledger.open(studio.path, mode="read") as ledger:
        return EvidenceFiles("model.tlog-proof", ledger.proof(ledger.models()[0].index))


@pytest.fixture(scope="module")
def studio(tmp_path_factory: pytest.TempPathFactory) -> Studio:
    """A calibrated studio: six logged pictures, both calibrations really measured."""
    made = make_studio(tmp_path_factory.mktemp("verifier") / "studio.ledger")
    calibrate_folder(made.path / "models" / "mlp")
    shutil.copytree(made.path / "models" / "mlp" / "calibrations", made.folder / "calibrations", dirs_exist_ok=True)
    return made


@pytest.fixture(scope="module")
def strict(studio: Studio) -> Iterator[Verifier]:
    with Verifier(ledgers=[studio.path], policy=studio.policy, authors=studio.authors, options=STRICT) as verifier:
        yield verifier


@pytest.fixture(scope="module")
def relaxed(studio: Studio) -> Iterator[Verifier]:
    with Verifier(ledgers=[studio.path], policy=studio.policy, authors=studio.authors, options=RELAXED) as verifier:
        yield verifier


@pytest.fixture
def copied(studio: Studio, tmp_path: Path) -> Studio:
    """A copy of the studio's ledger that a test may damage or write to."""
    path = Path(shutil.copytree(studio.path, tmp_path / "copy.ledger"))
    return Studio(path, studio.generator, studio.pictures, studio.indices, studio.folder)


def check(report: Any, name: str) -> Any:
    return next(c for c in report.checks if c.name.startswith(name))


# --- logged, claimed ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", ["png", "webp", "bmp"])
def test_a_logged_picture_in_any_lossless_file_is_logged(
    studio: Studio, relaxed: Verifier, tmp_path: Path, suffix: str
) -> None:
    options = {"lossless": True, "exact": True} if suffix == "webp" else {}
    report = relaxed.verify(save(tmp_path / f"a.{suffix}", studio.pictures[2], **options))
    assert (report.verdict, report.exit_code) == (Verdict.LOGGED, 0)
    assert report.line == f"logged by {AUTHOR} as entry 3 of {AUTHOR}/log, replayed sample for sample"
    assert check(report, "inversion").state == "skipped"


def test_revocations_are_none_only_once_every_entry_was_read(studio: Studio, tmp_path: Path) -> None:
    """The lookup index of somebody else's ledger says what it holds, never that it holds all."""
    logged = save(tmp_path / "a.png", studio.pictures[2])
    with Verifier(ledgers=[studio.path], policy=studio.policy, authors=studio.authors, options=STRICT) as verifier:
        assert check(verifier.verify(logged), "revocation").reason == "not checked"
        verifier.verify(save(tmp_path / "b.png", blocks(500)))  # not found, so the whole log is scanned
        known = f"none in the first 7 entries of {AUTHOR}/log; this entry has index 3"
        assert check(verifier.verify(logged), "revocation").reason == known


def test_without_a_policy_an_own_ledger_is_self_attested(studio: Studio, tmp_path: Path) -> None:
    report = verify(save(tmp_path / "a.png", studio.pictures[0]), ledgers=[studio.path], options=RELAXED)
    assert report.verdict == Verdict.LOGGED
    assert report.line.startswith("self-attested: ")
    assert report.document.trust == "own"


def test_a_public_folder_alone_says_only_what_was_claimed(studio: Studio, tmp_path: Path) -> None:
    """An auditor without vault and model: the entry stands under the policy, and nothing more."""
    report = verify(
        save(tmp_path / "a.png", studio.pictures[0]), ledgers=[studio.path / "public"], policy=studio.policy,
        authors=studio.authors, options=RELAXED,
    )  # fmt: skip
    assert (report.verdict, report.exit_code) == (Verdict.CLAIMED, 6)
    assert "not opened" in report.line


def test_a_public_folder_without_policy_says_nothing(studio: Studio, tmp_path: Path) -> None:
    image = save(tmp_path / "a.png", studio.pictures[0])
    report = verify(image, ledgers=[studio.path / "public"], options=RELAXED)
    assert report.verdict == Verdict.INCONCLUSIVE
    assert report.document.trust == "none"
    with pytest.raises(UsageError, match="together"):
        verify(image, ledgers=[studio.path], policy=studio.policy)


def test_evidence_and_a_model_folder_are_enough_for_logged(studio: Studio, tmp_path: Path) -> None:
    """No ledger at all: the proof, the opening, the model's own entry, and the weights."""
    image = save(tmp_path / "a.png", studio.pictures[4])
    given: dict[str, Any] = {"policy": studio.policy, "authors": studio.authors, "models": [studio.folder]}
    full = verify(image, evidence=[files(studio, 4), model_evidence(studio)], options=RELAXED, **given)
    assert full.verdict == Verdict.LOGGED
    without = verify(image, evidence=[files(studio, 4)], options=RELAXED, **given)
    assert without.verdict == Verdict.CLAIMED
    assert "no model:v1 entry" in without.line
    closed = verify(image, evidence=[files(studio, 4, opening=False)], options=RELAXED, **given)
    assert closed.verdict == Verdict.CLAIMED


def test_evidence_files_are_read_in_pairs(studio: Studio, tmp_path: Path) -> None:
    evidence = files(studio, 1)
    proof, opening = tmp_path / "x.tlog-proof", tmp_path / "x.opening.json"
    proof.write_bytes(evidence.proof)
    assert evidence.opening is not None
    opening.write_bytes(evidence.opening)
    image = save(tmp_path / "a.png", studio.pictures[1])
    for given in ([proof], [opening], [proof, opening]):
        report = verify(
            image, evidence=given, policy=studio.policy, authors=studio.authors, models=[studio.folder], options=RELAXED
        )
        assert report.document.entries[0].replay == "exact"
    proof.unlink()
    with pytest.raises(UsageError, match="without its proof"):
        verify(image, evidence=[opening], policy=studio.policy, authors=studio.authors)


def test_only_free_inputs_is_claimed(copied: Studio, tmp_path: Path) -> None:
    """A latent that the author could choose outside the prior replays exactly and counts for nothing."""
    z = np.full(LATENT, 6.0, np.float32)
    import torch

    pixels = copied.generator.sample(torch.from_numpy(z)[None])[0].numpy()
    with Ledger.open(copied.path) as ledger:
        ledger.append(image=pixels, model="mlp", latent=z)
        ledger.flush()
    image = save(tmp_path / "a.png", pixels)
    report = verify(image, ledgers=[copied.path], policy=copied.policy, authors=copied.authors, options=RELAXED)
    assert report.document.entries[0].replay == "exact"
    assert report.verdict == Verdict.CLAIMED
    assert "inputs do not count" in report.line


# --- derived -----------------------------------------------------------------------------------------------------


COPIES: list[tuple[str, Callable[[Pixels], Pixels], dict[str, Any]]] = [
    ("a.jpg", lambda p: p, {"quality": 85}),
    ("b.png", lambda p: p[2:31, 1:30], {}),
    ("c.jpg", lambda p: p[0:29, 3:32], {"quality": 85}),
    ("d.png", lambda p: p[:, ::-1], {}),
    ("e.png", lambda p: as_jpeg(np.ascontiguousarray(p[1:31, 2:32]), 75), {}),
]


@pytest.mark.parametrize(("name", "change", "options"), COPIES, ids=[c[0] for c in COPIES])
def test_a_changed_copy_is_derived_and_says_from_what(
    studio: Studio, relaxed: Verifier, tmp_path: Path, name: str, change: Callable[[Pixels], Pixels], options: Any
) -> None:
    report = relaxed.verify(save(tmp_path / name, np.ascontiguousarray(change(studio.pictures[3])), **options))
    assert (report.verdict, report.exit_code) == (Verdict.DERIVED, 10)
    assert "entry 4 of" in report.line
    copies = report.document.copies
    assert copies.pictures == 6
    # a JPEG made of the replayed picture by the same codec leaves nothing open
    assert ("re-encoded with this file's own JPEG settings" in report.line) == name.endswith(".jpg")
    assert copies.calibration is not None


def test_evidence_alone_finds_the_original_of_a_copy(studio: Studio, tmp_path: Path) -> None:
    """Evidence is for another image by name, and its record is still a candidate original."""
    image = save(tmp_path / "crop.png", studio.pictures[5][1:30, 2:31])
    report = verify(
        image, evidence=[files(studio, 5)], policy=studio.policy, authors=studio.authors, models=[studio.folder],
        options=RELAXED,
    )  # fmt: skip
    assert check(report, "subject").state == "failed"
    assert check(report, "subject").reason == "the evidence is for another image"
    assert report.verdict == Verdict.DERIVED


def test_a_logged_jpeg_file_whose_samples_are_not_the_replays(copied: Studio, tmp_path: Path) -> None:
    """The file's digest was logged with the picture it was saved from: a JPEG is derived, junk is claimed."""
    import torch

    def logged_file(seed: bytes, data: Callable[[Pixels], bytes]) -> Path:
        with Ledger.open(copied.path) as ledger:
            draw = ledger.take_draws(1)[0]
            z = latent(derive(seed, parse_digest(copied.generator.digest), ledger.author_vkey, draw), (LATENT,))
            pixels = copied.generator.sample(torch.from_numpy(z)[None])[0].numpy()
            content = data(pixels)
            ledger.append(image=pixels, model="mlp", latent=z, seed_secret=seed, draw=draw, file=content)
            ledger.flush()
        path = tmp_path / f"{seed[:2].hex()}.jpg"
        path.write_bytes(content)
        return path

    def jpeg(pixels: Pixels, quality: int = 85) -> bytes:
        out = io.BytesIO()
        Pillow.fromarray(pixels).save(out, "JPEG", quality=quality)
        return out.getvalue()

    near = logged_file(b"\x01" * 32, jpeg)
    far = logged_file(b"\x02" * 32, lambda _: jpeg(blocks(1)))
    with Verifier(ledgers=[copied.path], policy=copied.policy, authors=copied.authors, options=RELAXED) as verifier:
        derived = verifier.verify(near)
        assert derived.document.entries[0].matches == "file"
        assert derived.verdict == Verdict.DERIVED
        assert "this very file" in derived.line
        assert verifier.verify(far).verdict == Verdict.CLAIMED


# --- attributed, deniable, inconclusive --------------------------------------------------------------------------


def test_an_unlogged_picture_of_the_generator_is_attributed_exactly(
    studio: Studio, relaxed: Verifier, tmp_path: Path
) -> None:
    report = relaxed.verify(save(tmp_path / "a.png", fresh(studio.generator, 999)[0]))
    assert (report.verdict, report.exit_code) == (Verdict.ATTRIBUTED, 11)
    assert report.document.verdict.model == studio.generator.digest
    assert report.document.verdict.author == AUTHOR
    assert check(report, "exact certificate").reason.startswith("yes")
    # what is attributed without a log, a policy or a calibration: the certificate needs none of them
    alone = verify(save(tmp_path / "b.png", fresh(studio.generator, 998)[0]), models=[studio.folder], options=RELAXED)
    assert alone.verdict == Verdict.ATTRIBUTED
    assert "registered by the auditor" in alone.line


def test_an_author_is_named_only_for_models_registered_before_the_claimed_date(studio: Studio, tmp_path: Path) -> None:
    early = Options(scope="relaxed", budget=BUDGET, threads=1, claimed=datetime.now(UTC) - timedelta(days=365))
    image = save(tmp_path / "a.png", fresh(studio.generator, 999)[0])
    report = verify(image, ledgers=[studio.path], policy=studio.policy, authors=studio.authors, options=early)
    assert report.verdict == Verdict.ATTRIBUTED
    assert report.document.verdict.author is None
    assert "registered by the auditor" in report.line


def test_its_jpeg_is_never_deniable(studio: Studio, relaxed: Verifier, tmp_path: Path) -> None:
    report = relaxed.verify(save(tmp_path / "a.jpg", fresh(studio.generator, 999)[0], quality=85))
    assert report.verdict == Verdict.INCONCLUSIVE


def test_a_picture_of_something_else_is_deniable_in_the_calibrated_scope(strict: Verifier, tmp_path: Path) -> None:
    report = strict.verify(save(tmp_path / "a.png", blocks(500)))
    assert (report.verdict, report.exit_code) == (Verdict.DENIABLE, 12)
    assert report.line == "no registered generator reproduces it (scope strict, error at most 9.8 %)"
    assert "innocent" not in report.html().lower().replace("innocence", "")
    assert report.document.coverage.state == "absent"
    assert report.document.copies.ran


def test_a_denial_rests_on_several_searches(studio: Studio, strict: Verifier, tmp_path: Path) -> None:
    report = strict.verify(save(tmp_path / "a.png", blocks(500)))
    assert report.verdict == Verdict.DENIABLE
    searched = check(report, "further searches of mlp")
    assert searched.state == "made"
    assert searched.reason.startswith(
        f"{DENIAL_SEARCHES} searches from different random starts; the nearest further one"
    )
    # where a denial does not wait for them none is made
    attributed = strict.verify(save(tmp_path / "b.png", fresh(studio.generator, 997)[0]))
    assert attributed.verdict == Verdict.ATTRIBUTED
    assert not [c for c in attributed.checks if c.name.startswith("further searches")]


@pytest.mark.parametrize("up_to_changes", [False, True])
def test_a_stuck_first_search_denies_nothing(studio: Studio, strict: Verifier, up_to_changes: bool) -> None:
    """A first search that ended far away, followed by the real further ones on a picture of the generator's own."""
    settings = Settings(STRICT.budget, relaxed=up_to_changes, threads=1)
    models = list(strict.models)
    first = Settings(STRICT.budget, relaxed=False, threads=1)
    far, _ = invert_candidates(blocks(500), models, set(), [], time.time(), first)
    assert far[0].finding.residual is not None and far[0].finding.residual > 1e-3
    own = fresh(studio.generator, 996)[0]
    found, checks = search_again(own, far, models, strict.scope, settings)
    assert found[0].finding.exact and found[0].finding.searches == 2
    assert found[0].inversion is not None and found[0].inversion.mismatches == 0
    assert [c.state for c in checks] == ["made"]
    findings = Findings(
        "policy", coverage=Coverage("absent", (("log", 6),)), copies=CopyFinding(True, 6),
        candidates=tuple(c.finding for c in found),
    )  # fmt: skip
    assert decide(findings, strict.scope).verdict is Verdict.ATTRIBUTED


def test_a_denial_says_that_a_vouched_index_proves_absence(studio: Studio, copied: Studio, tmp_path: Path) -> None:
    from dataclasses import replace

    keys = [SignerKey(f"{name}/index", ED25519, bytes([n]) * 32) for n, name in enumerate((f"{AUTHOR}/log", "m"), 1)]
    policy = f"log {keys[0].verifier}\nwitness m {keys[1].verifier}\nquorum m\n".encode()
    with Ledger.open(copied.path, mode="read") as ledger:
        publish(ledger.public, recompute(ledger.log, ledger.checkpoint().checkpoint).sign(*keys))
    options = replace(STRICT, index_policy=IndexPolicy.parse(policy))
    image = save(tmp_path / "a.png", blocks(500))
    report = verify(
        image, ledgers=[copied.path], policy=copied.policy, authors=copied.authors, options=options,
    )  # fmt: skip
    assert report.verdict == Verdict.DENIABLE
    assert "Proven absent by the index" in report.document.coverage.reason
    assert "whose root m recomputed" in report.html()
    false = IndexHead.of(Checkpoint.parse(Note.parse((copied.path / "public/checkpoint").read_bytes()).text), bytes(32))
    publish(copied.path / "public", false.sign(*keys))
    refuted = verify(
        image, ledgers=[copied.path], policy=copied.policy, authors=copied.authors, options=options,
    )  # fmt: skip
    assert refuted.verdict == Verdict.REFUTED
    assert "is not what the log's entries give" in refuted.line


def test_a_class_without_calibration_denies_nothing(relaxed: Verifier, tmp_path: Path) -> None:
    report = relaxed.verify(save(tmp_path / "a.png", blocks(500)))
    assert report.verdict == Verdict.INCONCLUSIVE
    assert "not calibrated for jpeg" in report.line


def test_another_budget_than_the_calibrations_denies_nothing(studio: Studio, tmp_path: Path) -> None:
    from dataclasses import replace

    other = Options(scope="strict", budget=replace(BUDGET, rounds=1), threads=1)
    image = save(tmp_path / "a.png", blocks(500))
    report = verify(image, ledgers=[studio.path], policy=studio.policy, authors=studio.authors, options=other)
    assert report.verdict == Verdict.INCONCLUSIVE
    assert "another budget" in report.line


def test_two_candidates_have_scores_and_the_nearer_one_is_named(studio: Studio, tmp_path: Path) -> None:
    other = model_folder(tmp_path / "other", 5)
    image = save(tmp_path / "a.png", fresh(studio.generator, 997)[0])
    report = verify(
        image, ledgers=[studio.path], policy=studio.policy, authors=studio.authors, models=[other], options=RELAXED
    )
    assert report.document.verdict.model == studio.generator.digest
    scores = {s.candidate: jcs.unwrap_number(s.score) for s in report.document.scores}
    assert scores[studio.generator.digest] > 0.99
    assert {s.equation for s in report.document.scores} == {4}
    assert sum(scores.values()) == pytest.approx(0)


def test_the_feature_distance_is_a_further_line(studio: Studio, tmp_path: Path) -> None:
    from dataclasses import replace

    from tests.conftest import SHARED

    weights = SHARED / "weights" / "inception_v3_mixed5d.safetensors"
    if not weights.is_file():
        pytest.skip(f"no Inception weights in {weights.parent}")
    image = save(tmp_path / "a.png", fresh(studio.generator, 996)[0])
    report = verify(image, models=[studio.folder], options=replace(RELAXED, inception=weights))
    [candidate] = report.document.candidates
    assert 0 <= jcs.unwrap_number(candidate.feature_distance) < 1
    assert check(report, "l2-feature distance").state == "made"
    with pytest.raises(SetupError):
        verify(image, models=[studio.folder], options=replace(RELAXED, inception=tmp_path / "absent"))


def test_the_latent_of_a_logged_picture_is_recognised_behind_changes_of_no_list(
    studio: Studio, strict: Verifier, tmp_path: Path
) -> None:
    """Two samples painted over: no digest matches; the copy search finds it, and so does the recovered latent."""
    pixels = studio.pictures[1].copy()
    pixels[3, 4] = 255 - pixels[3, 4]
    report = strict.verify(save(tmp_path / "a.png", pixels))
    assert report.verdict == Verdict.DERIVED
    # with the copy stage blind (another model's records only) the latent still tells
    from plausible.attribution.stages.copies import SAME_LATENT, nearest_latent

    archive = strict._archive  # pyright: ignore[reportPrivateUsage]
    assert archive is not None
    z = archive.originals[2].latent
    found = nearest_latent(archive, studio.generator.digest, z + 0.02)
    assert found is not None
    assert found[0].index == archive.originals[2].index
    assert found[1] < SAME_LATENT


def test_blank_pictures_are_inconclusive_before_any_inversion(relaxed: Verifier, tmp_path: Path) -> None:
    stroke = np.zeros((32, 32, 3), np.uint8)
    stroke[4:28, 14:17] = 255
    report = relaxed.verify(save(tmp_path / "a.png", stroke))
    assert report.verdict == Verdict.INCONCLUSIVE
    assert "blank" in report.line
    assert not report.document.candidates
    assert without_evidence(stroke) is not None
    stroke[4:28, 12:22] = 255
    assert without_evidence(stroke) is None


@pytest.mark.parametrize("colour", [0, 128, 255])
def test_flat_pictures_are_inconclusive_before_any_inversion(relaxed: Verifier, tmp_path: Path, colour: int) -> None:
    rng = np.random.default_rng(colour)
    flat = np.clip(colour + rng.integers(-2, 3, (32, 32, 3)), 0, 255).astype(np.uint8)
    for pixels in (np.full((32, 32, 3), colour, np.uint8), flat):
        report = relaxed.verify(save(tmp_path / "a.png", pixels))
        assert report.verdict == Verdict.INCONCLUSIVE
        assert "flat" in report.line
        assert not report.document.candidates


def test_nothing_given_is_inconclusive(tmp_path: Path) -> None:
    report = verify(save(tmp_path / "a.png", blocks(3)), options=RELAXED)
    assert report.verdict == Verdict.INCONCLUSIVE
    assert any("no generator is registered" in reason for reason in report.decision.reasons)


# --- refuted, untrusted, incomplete ------------------------------------------------------------------------------


def edit_bundle(public: Path, change: Callable[[bytes], bytes]) -> None:
    path = max((p for p in (public / "tile" / "entries").rglob("*") if p.is_file()), key=lambda p: int(p.name))
    data = change(path.read_bytes())
    path.chmod(0o644)
    path.write_bytes(data)


def edit_entry(data: bytes, number: int) -> bytes:
    """One base64 digit of the signature of entry `number` of a bundle changed."""
    place = -1
    for _ in range(number + 1):
        place = data.index(b'"sig":"', place + 1)
    place += 20
    return data[:place] + (b"A" if data[place : place + 1] != b"A" else b"B") + data[place + 1 :]


@pytest.mark.parametrize("where", [".", "public"])
def test_an_edited_entry_is_refuted(copied: Studio, tmp_path: Path, where: str) -> None:
    edit_bundle(copied.path / "public", lambda data: edit_entry(data, copied.indices[2]))
    (copied.path / "lookup.db").unlink(missing_ok=True)
    image = save(tmp_path / "a.png", copied.pictures[2])
    with Verifier(
        ledgers=[copied.path / where], policy=copied.policy, authors=copied.authors, options=RELAXED
    ) as verifier:
        report = verifier.verify(image)
        assert (report.verdict, report.exit_code) == (Verdict.REFUTED, 1)
        assert "inclusion" in report.line
        # a picture that the log never held: what the log says of it contradicts its checkpoint
        assert verifier.verify(save(tmp_path / "b.png", blocks(7))).verdict == Verdict.REFUTED
        # an intact entry is still what it was
        intact = verifier.verify(save(tmp_path / "c.png", copied.pictures[4]))
        assert intact.verdict == (Verdict.LOGGED if where == "." else Verdict.CLAIMED)


def test_an_opening_of_another_entry_is_refuted(studio: Studio, tmp_path: Path) -> None:
    own, other = files(studio, 0), files(studio, 1)
    mixed = EvidenceFiles("mixed", own.proof, other.opening)
    report = verify(
        save(tmp_path / "a.png", studio.pictures[0]), evidence=[mixed], policy=studio.policy, authors=studio.authors,
        models=[studio.folder], options=RELAXED,
    )  # fmt: skip
    assert report.verdict == Verdict.REFUTED
    assert "commitment" in report.line


def test_an_entry_that_its_own_record_does_not_make_is_refuted(copied: Studio, tmp_path: Path) -> None:
    """The author logs a picture with the seed of another one: replayed here, under the record's own environment."""
    seed = b"\x05" * 32
    with Ledger.open(copied.path) as ledger:
        draw = ledger.take_draws(1)[0]
        z = latent(derive(seed, parse_digest(copied.generator.digest), ledger.author_vkey, draw), (LATENT,))
        ledger.append(image=blocks(9), model="mlp", latent=z, seed_secret=seed, draw=draw)
        ledger.flush()
    image = save(tmp_path / "a.png", blocks(9))
    report = verify(image, ledgers=[copied.path], policy=copied.policy, authors=copied.authors, options=RELAXED)
    assert report.document.entries[0].replay == "contradicts"
    assert report.verdict == Verdict.REFUTED


def test_a_split_view_is_refuted(copied: Studio, tmp_path: Path) -> None:
    """The same keys sign two histories: one is in the evidence, the other is served."""
    other = Path(shutil.copytree(copied.path, tmp_path / "other.ledger"))
    for path, colour in ((copied.path, 1), (other, 2)):
        with Ledger.open(path) as ledger:
            ledger.append(image=blocks(colour), model="mlp")
            ledger.flush()
    with Ledger.open(other, mode="read") as ledger:
        evidence = EvidenceFiles("other", ledger.proof(copied.indices[0]))
    report = verify(
        save(tmp_path / "a.png", copied.pictures[0]), ledgers=[copied.path], evidence=[evidence],
        policy=copied.policy, authors=copied.authors, options=RELAXED,
    )  # fmt: skip
    assert report.verdict == Verdict.REFUTED
    assert "split view" in report.line


def stricter(policy: bytes) -> bytes:
    """The policy with a further witness that nobody has, and all of them asked for."""
    key = SignerKey("late.example/witness", COSIGNATURE_ED25519, bytes(range(32))).verifier.encode()
    lines = [line for line in policy.decode().splitlines() if not line.startswith(("group", "quorum"))]
    return ("\n".join([*lines, f"witness late {key}", "quorum late"]) + "\n").encode()


def test_too_few_cosignatures_are_untrusted_unless_something_later_decides(studio: Studio, tmp_path: Path) -> None:
    image = save(tmp_path / "a.png", studio.pictures[0])
    asked: dict[str, Any] = {"policy": stricter(studio.policy), "authors": studio.authors, "options": RELAXED}
    report = verify(image, ledgers=[studio.path / "public"], **asked)
    assert (report.verdict, report.exit_code) == (Verdict.UNTRUSTED, 5)
    assert "late" in report.line
    # the generator is at hand and reproduces it: that decides
    assert verify(image, ledgers=[studio.path], **asked).verdict == Verdict.ATTRIBUTED
    # a picture that no entry names: not untrusted, and not absent either
    absent = verify(save(tmp_path / "b.png", blocks(2)), ledgers=[studio.path / "public"], **asked)
    assert absent.verdict == Verdict.INCONCLUSIVE


def test_an_unknown_author_is_untrusted_when_handed_in_and_passed_over_when_found(
    studio: Studio, tmp_path: Path
) -> None:
    image = save(tmp_path / "a.png", studio.pictures[0])
    stranger = f"author {SignerKey('someone.example/else', ED25519, bytes(32)).verifier.encode()}\n".encode()
    given = verify(image, evidence=[files(studio, 0)], policy=studio.policy, authors=stranger, options=RELAXED)
    assert given.verdict == Verdict.UNTRUSTED
    found = verify(image, ledgers=[studio.path / "public"], policy=studio.policy, authors=stranger, options=RELAXED)
    assert found.verdict == Verdict.INCONCLUSIVE
    assert found.document.entries[0].accused is False


def test_authors_who_are_not_accused_are_listed_and_are_no_stop(studio: Studio, tmp_path: Path) -> None:
    other = f"author {SignerKey('someone.example/else', ED25519, bytes(32)).verifier.encode()}\n".encode()
    accused = Options(scope="strict", budget=BUDGET, threads=1, accused=("someone.example/else",))
    report = verify(
        save(tmp_path / "a.png", studio.pictures[0]), ledgers=[studio.path], policy=studio.policy,
        authors=studio.authors + other, options=accused,
    )  # fmt: skip
    assert report.document.entries[0].accused is False
    assert report.verdict == Verdict.ATTRIBUTED  # not presence, not a stop: the generator is asked
    assert report.document.coverage.state == "absent"
    assert "not accused" in report.document.coverage.reason
    with pytest.raises(UsageError, match=r"not in authors\.txt"):
        verify(
            tmp_path / "a.png", ledgers=[studio.path], policy=studio.policy, authors=studio.authors,
            options=Options(accused=("nobody",)),
        )  # fmt: skip


def test_a_forged_entry_in_somebody_elses_log_is_passed_over() -> None:
    """Anyone may log an entry in the accused's name; without his signature it is no presence and no contradiction."""
    from plausible.attribution.stages.entries import judge
    from plausible.ledger.entries.evidence import verify_evidence

    from tests.ledger import test_evidence as known

    leaf = jcs.decode(known.LEAF)
    assert isinstance(leaf, dict)
    leaf["signatures"] = [{**leaf["signatures"][0], "sig": "A" * 85 + "A=="}]  # type: ignore[index,dict-item]
    evidence = verify_evidence(known.IMAGE, known.proof_of(jcs.encode(leaf)), None, known.POLICY, known.AUTHORS)
    assert [c.name for c in evidence.failed] == ["author"]
    accused = ("models.example/studio",)
    found = judge(evidence, "found", given=False, accused=accused, registered=[]).finding
    assert (found.accused, found.matches) == (False, "pixels")
    handed = judge(evidence, "given", given=True, accused=accused, registered=[]).finding
    assert handed.accused
    assert handed.contradiction is not None


def test_evidence_without_opening_is_opened_from_an_own_vault(
    studio: Studio, relaxed: Verifier, tmp_path: Path
) -> None:
    report = verify(
        save(tmp_path / "a.png", studio.pictures[0]), ledgers=[studio.path], evidence=[files(studio, 0, opening=False)],
        policy=studio.policy, authors=studio.authors, options=RELAXED,
    )  # fmt: skip
    assert report.verdict == Verdict.LOGGED


def test_missing_weights_are_incomplete(copied: Studio, tmp_path: Path) -> None:
    (copied.path / "models" / "mlp" / "weights.safetensors").unlink()
    image = save(tmp_path / "a.png", blocks(4))
    report = verify(image, ledgers=[copied.path], policy=copied.policy, authors=copied.authors, options=STRICT)
    assert (report.verdict, report.exit_code) == (Verdict.INCOMPLETE, 4)
    assert "weights" in report.line


def test_a_model_named_in_the_log_but_not_given_is_incomplete(studio: Studio, tmp_path: Path) -> None:
    """Whoever withholds the weights gains no denial: the public log names the model."""
    report = verify(
        save(tmp_path / "a.png", blocks(4)), ledgers=[studio.path / "public"], policy=studio.policy,
        authors=studio.authors, options=STRICT,
    )  # fmt: skip
    assert report.verdict == Verdict.INCOMPLETE
    assert studio.generator.digest[:19] in report.line


def test_withholding_the_records_gains_no_denial(studio: Studio, tmp_path: Path) -> None:
    report = verify(
        save(tmp_path / "a.png", blocks(4)), ledgers=[studio.path / "public"], models=[studio.folder],
        policy=studio.policy, authors=studio.authors, options=STRICT,
    )  # fmt: skip
    assert report.verdict == Verdict.INCONCLUSIVE
    assert "none of the 6 logged pictures" in report.line


def test_a_log_without_witnesses_shows_no_absence(tmp_path: Path) -> None:
    folder = model_folder(tmp_path / "weights" / "mlp", 1)
    with Ledger.init(tmp_path / "alone.ledger", author=AUTHOR) as ledger:
        ledger.register_model("mlp", folder=folder)
        ledger.flush()
    report = verify(save(tmp_path / "a.png", blocks(4)), ledgers=[tmp_path / "alone.ledger"], options=STRICT)
    assert report.document.coverage.state == "unknown"
    assert report.verdict == Verdict.INCONCLUSIVE


def test_a_strangers_entry_makes_no_unwitnessed_log_a_witnessed_one(tmp_path: Path) -> None:
    with Ledger.init(tmp_path / "alone.ledger", author=AUTHOR) as ledger:
        ledger.register_model("mlp", folder=model_folder(tmp_path / "weights" / "mlp", 1))
        ledger.append(image=blocks(4), model="mlp")
        ledger.flush()
        policy = (ledger.path / "policy.txt").read_bytes()
    other = f"author {SignerKey('someone.example/else', ED25519, bytes(32)).verifier.encode()}\n".encode()
    report = verify(
        save(tmp_path / "a.png", blocks(4)), ledgers=[tmp_path / "alone.ledger" / "public"], policy=policy,
        authors=other, options=STRICT,
    )  # fmt: skip
    assert report.document.coverage.state == "unknown"
    assert report.verdict == Verdict.INCONCLUSIVE


def test_a_stale_checkpoint_gates_absence_only(studio: Studio, tmp_path: Path) -> None:
    from dataclasses import replace

    stale = replace(STRICT, max_age=-1.0)
    asked: dict[str, Any] = {"ledgers": [studio.path], "policy": studio.policy, "authors": studio.authors}
    absent = verify(save(tmp_path / "a.png", blocks(4)), options=stale, **asked)
    assert absent.verdict == Verdict.INCONCLUSIVE
    assert "old" in absent.line
    assert verify(save(tmp_path / "b.png", studio.pictures[0]), options=stale, **asked).verdict == Verdict.LOGGED


@pytest.mark.parametrize(
    "data", [b"", b"nonsense", b"\x89PNG\r\n\x1a\n" + bytes(40)], ids=["empty", "nonsense", "broken PNG"]
)
def test_unreadable_pictures_are_incomplete(relaxed: Verifier, tmp_path: Path, data: bytes) -> None:
    (tmp_path / "a.png").write_bytes(data)
    for given in (tmp_path / "a.png", data):
        report = relaxed.verify(given)
        assert (report.verdict, report.exit_code) == (Verdict.INCOMPLETE, 4)
        assert report.document.image.pixels is None
        assert "Deniability report" in report.html()
    assert relaxed.verify(tmp_path / "absent.png").verdict == Verdict.INCOMPLETE
    Pillow.new("CMYK", (8, 8)).save(tmp_path / "cmyk.jpg")
    assert "CMYK" in relaxed.verify(tmp_path / "cmyk.jpg").line


@pytest.mark.parametrize("part", ["proof", "opening"])
def test_malformed_evidence_is_incomplete_and_named(studio: Studio, tmp_path: Path, part: str) -> None:
    evidence = files(studio, 0)
    broken = (
        EvidenceFiles("broken", b"nonsense", evidence.opening)
        if part == "proof"
        else EvidenceFiles("broken", evidence.proof, b'{"fields":[]}')
    )
    report = verify(
        save(tmp_path / "a.png", blocks(1)), evidence=[broken], policy=studio.policy, authors=studio.authors,
        models=[studio.folder], options=RELAXED,
    )  # fmt: skip
    assert report.verdict == Verdict.INCOMPLETE
    assert part in report.line


# --- batches, reports --------------------------------------------------------------------------------------------


def test_a_batch_takes_the_worst_and_goes_on(studio: Studio, strict: Verifier, tmp_path: Path) -> None:
    images = [
        save(tmp_path / "logged.png", studio.pictures[0]), save(tmp_path / "other.png", blocks(500)),
        save(tmp_path / "crop.png", studio.pictures[1][2:31, 2:31]),
    ]  # fmt: skip
    (tmp_path / "bad.png").write_bytes(b"no picture")
    verdicts = [report.verdict for report in verify_batch([*images, tmp_path / "bad.png"], strict)]
    assert verdicts == [Verdict.LOGGED, Verdict.DENIABLE, Verdict.DERIVED, Verdict.INCOMPLETE]
    assert worst(verdicts) == Verdict.INCOMPLETE
    assert worst(verdicts[:3]) == Verdict.DERIVED


def test_progress_is_told_by_stage(studio: Studio, tmp_path: Path) -> None:
    seen: list[tuple[str, int, int]] = []
    verify(
        save(tmp_path / "a.png", blocks(500)), ledgers=[studio.path], policy=studio.policy, authors=studio.authors,
        options=STRICT, progress=lambda *step: seen.append(step),
    )  # fmt: skip
    assert {stage for stage, _, _ in seen} >= {"coverage", "changed copies", "inversion"}
    assert all(0 <= done <= total for _, done, total in seen)


@pytest.mark.long
def test_relaxed_denies_once_every_class_is_calibrated(copied: Studio, tmp_path: Path) -> None:
    from plausible.attribution.calibration.classes import RELAXED as CLASSES

    folder = copied.path / "models" / "mlp"
    shutil.rmtree(folder / "calibrations")
    calibrate_folder(folder, CLASSES)
    with Verifier(ledgers=[copied.path], policy=copied.policy, authors=copied.authors, options=RELAXED) as verifier:
        report = verifier.verify(save(tmp_path / "a.png", blocks(500)))
        assert report.verdict == Verdict.DENIABLE, report.decision
        assert "scope relaxed" in report.line
        own = fresh(copied.generator, 999)[0]
        for name, options in (("b.jpg", {"quality": 85}), ("c.jpg", {"quality": 50})):
            assert verifier.verify(save(tmp_path / name, own, **options)).verdict == Verdict.INCONCLUSIVE
