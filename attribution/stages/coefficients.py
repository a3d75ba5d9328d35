"""A probe that is a JPEG file of a candidate's own size: was it written from a picture of that candidate?

The file's coefficients are asked, from the latent that the inversion of the decoded pixels found, mirrored if that
found the picture so (inversion/coefficients.py). What it says is a confirmation as any other: within the limit that a
calibration of the same method gives, it attributes; it never makes anything deniable. Sizes must agree: what was cut
or resized has other coefficients.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ...schemas.errors import EvidenceError, PlausibleError
from ..distances.jpeg.file import JpegFile, read_jpeg
from ..inversion.coefficients import confirm_relaxed
from ..inversion.relaxed import MISS
from ..report.document import floors_text
from .candidate import STAGE, Candidate, Settings
from .candidate_checks import confirmation_check
from .confirming import confirmed
from .findings import Check
from .models import Model


def confirm_coefficients(
    data: bytes,
    candidates: Sequence[Candidate],
    models: Sequence[Model],
    settings: Settings,
    *,
    progress: Callable[[str, int, int], None] | None = None,
) -> tuple[list[Candidate], list[Check]]:
    """The candidates, and a line for each that was inverted; `data` is the JPEG file that the probe was read from."""
    try:
        file: JpegFile | EvidenceError = read_jpeg(data)
    except EvidenceError as error:
        file = error
    by_digest = {model.digest: model for model in models}
    found: list[Candidate] = []
    checks: list[Check] = []
    for number, candidate in enumerate(candidates):
        model = by_digest.get(candidate.finding.model)
        if candidate.inversion is None or model is None:
            found.append(candidate)
            continue
        if progress is not None:
            progress("JPEG coefficients", number, len(candidates))
        answer = _confirmed(file, candidate, model, settings)
        if isinstance(answer, str):
            checks.append(Check(f"JPEG coefficients of {candidate.finding.name}", "skipped", answer, STAGE))
            found.append(candidate)
        else:
            told = answer.finding.confirmations[-1]
            checks.append(confirmation_check(told, f"JPEG coefficients of {candidate.finding.name}"))
            found.append(answer)
    return found, checks


def _confirmed(
    file: JpegFile | EvidenceError, candidate: Candidate, model: Model, settings: Settings
) -> Candidate | str:
    """The candidate with its confirmation, or why there is none."""
    finding, relaxed, generator = candidate.finding, candidate.relaxed, model.generator()
    if isinstance(file, EvidenceError):
        return str(file)
    if generator is None or relaxed is None or finding.state != "inverted":
        return "no inversion up to a change to go on from"
    if (file.height, file.width) != (generator.output.height, generator.output.width):
        return f"the file is {file.width}x{file.height}: coefficients of another size cannot be compared"
    if relaxed.residual > MISS:
        return f"{floors_text(relaxed.residual)} up to a change: another picture"
    try:
        found = confirm_relaxed(
            file, generator, relaxed, budget=settings.budget, threads=settings.threads, device=settings.device
        )
    except (PlausibleError, RuntimeError) as error:
        return str(error).splitlines()[0]
    if found is None:
        return f"the file holds too few coefficients for {generator.latent.dim} latent numbers, or no Jacobian fits"
    return confirmed(model, generator, candidate, found, settings)
