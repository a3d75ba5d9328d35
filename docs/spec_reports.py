"""The examples of the pages about what a verification writes down: reports and calibrations. See make_spec.py."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from plausible.attribution.inversion.budget import Budget
from plausible.schemas import jcs
from plausible.schemas.attribution import AttributionRow, RowEnvironment, RowLimits
from plausible.schemas.calibration import CalibrationDocument
from plausible.schemas.copies import CopyCalibration
from plausible.schemas.document import Document
from plausible.schemas.report import ReportDocument

_MODEL = "sha256:0ec3b46d0632cf51b8fc8be9043ec9ec21c76cf8cbaa1e4e225432423d5ac014"
_PIXELS = "sha256:a3ba93425b9d3e298bba52eccda81ec7f9fa5253fd429c3254b4dc7af08ac44d"
# written out, so that a tuned default does not make the page stale
_BUDGET = Budget(
    adam_starts=8, adam_steps=40, adam_rate=0.1, adam_prior=1e-5, lm_starts=2, lm_iterations=24, lm_chords=3,
    lm_prior=30.0, rounds=8, exact_iterations=4,
)  # fmt: skip
_FILE = "sha256:1b986da952eb5d045e0419d24da98af9dfffc8f33fcb1c9b3da3b099af549960"
_AUTHOR = "models.example/studio"


def _number(value: float) -> Any:
    return jcs.wrap_number(value)


def _block(document: Document) -> str:
    # through the parser, so that an example that is not a document cannot stand on a page
    kind = type(document)
    again = kind.parse(document.to_jcs(), what="example")
    return "```\n" + json.dumps(json.loads(again.to_jcs()), indent=1, ensure_ascii=False) + "\n```"


def report() -> str:
    """A report that attributes a picture, with one entry, one candidate and one check of each state."""
    image = {
        "file": _FILE, "format": "PNG", "height": 64, "mode": "RGB", "name": "face.png", "notes": (),
        "pixels": _PIXELS, "width": 64,
    }  # fmt: skip
    entry = {
        "accused": True, "author": _AUTHOR, "contradiction": None, "distrust": None, "index": 17, "matches": None,
        "model": _MODEL, "model_registered": True, "opened": False, "origin": f"{_AUTHOR}/log", "replay": None,
        "time": "2026-03-01T12:00:00.000000Z", "uncounted": None,
    }  # fmt: skip
    limits = {
        "attribution": _number(2.5e-05), "denial": _number(1.9e-06), "failure_bound": _number(0.03), "n": 100,
    }  # fmt: skip
    candidate = {
        "author": _AUTHOR, "calibrations": (_FILE,), "change": None, "changed": None, "confirmations": (),
        "conformal_p": _number(0.4), "exact": True, "feature_distance": None, "limits": {"unprocessed": limits},
        "log10_lr": _number(1.7), "log10_lr_cap": _number(1.7), "mismatches": 0, "model": _MODEL, "name": "faces",
        "reason": "", "required": True, "residual": _number(1.28e-06), "resized": False, "state": "inverted",
    }  # fmt: skip
    line = f"generator faces ({_MODEL[:19]}), registered by {_AUTHOR}, reproduces it"
    made = ReportDocument.of(
        {
            "accused": (_AUTHOR,), "auditor": None, "authors": _FILE, "budget": _MODEL,
            "candidates": (candidate,),
            "checkpoints": ({"cosigners": ("a", "b"), "existence_time": "2026-03-01T12:00:07.000000Z",
                             "origin": f"{_AUTHOR}/log", "root": _MODEL, "size": 65},),
            "checks": (
                {"name": "image read", "reason": "PNG, 64 x 64, RGB", "stage": "image", "state": "made"},
                {"name": "subject (other.png.tlog-proof)", "reason": "it is about another image", "stage": "evidence",
                 "state": "failed"},
                {"name": "replay", "reason": "no entry is about this image", "stage": "replay", "state": "skipped"},
            ),
            "claimed_date": None, "command": "pd verify face.png --policy court.policy --authors authors.txt",
            "copies": {"calibration": None, "found": None, "key": None, "limit": None, "pictures": 64, "psnr": None,
                       "ran": True, "reason": "", "residual": None, "ssim": None, "transformation": None},
            "coverage": {"logs": ({"origin": f"{_AUTHOR}/log", "size": 65},), "reason": "no entry names its digests",
                         "state": "absent"},
            "created": "2026-03-02T08:00:00.000000Z", "entries": (entry,), "format": "plausible.report/1",
            "image": image, "not_shown": ("Who ran the generator.",), "policy": _PIXELS,
            "scope": {"classes": ("unprocessed",), "name": "strict"},
            "scores": ({"candidate": _MODEL, "equation": 5, "score": _number(0.98)},),
            "seconds": {"inversion": _number(4.2)}, "trust": "policy",
            "verdict": {"author": _AUTHOR, "error": None, "exit_code": 11, "line": line, "model": _MODEL,
                        "reasons": (line,), "self_attested": False, "stage": "inversion", "word": "attributed"},
            "versions": {"engine": "1", "plausible": "0.1.0"},
        }
    )  # fmt: skip
    return _block(made)


def calibration() -> str:
    """Two own pictures and two others of one class: too few for limits, enough to show the form."""
    own = [
        {"exact": True, "mismatches": 0, "parameters": {}, "residual": _number(r), "seed": 1_000_000 + i}
        for i, r in enumerate((1.27e-06, 1.29e-06))
    ]
    others = [
        {"derivative": derivative, "exact": False, "kind": kind, "mismatches": 12_000, "name": f"{kind}-0",
         "parameters": {}, "residual": _number(residual), "seed": 1_050_000 + i}
        for i, (kind, residual, derivative) in enumerate((("emoji", 2.1e-2, False), ("clone", 1.6e-4, True)))
    ]  # fmt: skip
    made = CalibrationDocument.of(
        {
            "budget": _BUDGET.to_json(),
            "classes": {"unprocessed": {"negatives": others, "own": own}},
            "command": "pd models calibrate faces --negatives emoji/ --clones clone/",
            "distance": "l2", "engine": "1", "environment": {"python": "3.11.7", "torch": "2.13.0"},
            "format": "plausible.calibration/1", "kind": "inversion", "model": _MODEL, "samples": 12_288,
            "time": "2026-02-01T00:00:00.000000Z",
        },
        what="calibration",
    )  # fmt: skip
    return _block(made)


def copies() -> str:
    """One family with two measurements each: too few for limits."""
    family = {
        "limit": None, "missed": 0, "negative_residuals": (_number(2.0e-2), _number(2.4e-2)),
        "negative_shares": (_number(0.5), _number(0.6)), "positive_residuals": (_number(2.0e-4), _number(3.0e-4)),
        "positive_shares": (_number(0.005), _number(0.007)), "share_limit": None,
    }  # fmt: skip
    made = CopyCalibration.of(
        {"families": {"whole": family}, "format": "plausible.copies/1", "kind": "copies", "model": _MODEL,
         "pictures": 256, "search": "1", "seed": 1_000_000}
    )  # fmt: skip
    return _block(made)


def attribution() -> str:
    """One line of a batch's results, with line breaks."""
    made = AttributionRow(
        agreeing_starts=1, attempts=1, budget=_BUDGET.digest, calibrations=(_FILE,), conformal_p=0.4,
        engine="1", environment=RowEnvironment(device="cpu", threads=1, torch="2.13.0"), equation=4, exact=True,
        file=_FILE, floors=0.998, generator="faces", height=64, iterations=9, job=_PIXELS,
        limits=(RowLimits(attribution=2.5e-05, class_name="unprocessed", denial=1.9e-06, failure_bound=0.03, n=100),),
        line=f"self-attested: generator faces ({_MODEL[:19]}), registered by the auditor, reproduces it: "
        "a latent of it gives every 8-bit sample of the picture",
        log10_lr=1.7, log10_lr_cap=1.7, mismatches=0, model=_MODEL, named=True, path="pictures/face.png",
        pixels=_PIXELS, polished_starts=2, reducible=0.009, relaxed=True, relaxed_engine="1+1", residual=1.28e-06,
        rounds=1, samples=12_288, score=0.99, seconds=1.9, seed=0, square_norm=96.4,
        stages={"adam": 0.7, "exact": 0.5, "lm": 0.6}, starts=8, state="inverted", stopped="exact",
        time="2026-03-02T08:00:00.000000Z", verdict="attributed", whiteness=0.7, width=64,
    )  # fmt: skip
    again = AttributionRow.of_line(made.to_line())
    return "```\n" + json.dumps(again.to_json(), indent=1, sort_keys=True) + "\n```"


EXAMPLES: dict[str, Callable[[], str]] = {
    "report": report,
    "calibration": calibration,
    "copies": copies,
    "attribution": attribution,
}
