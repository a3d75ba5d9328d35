"""The papers' relative scores between candidates. They rank; they know no "none of these" (docs: calibration does).

Source: 000 Eq. 4 (two generators) and Eq. 5 (many).
"""

from __future__ import annotations

from collections.abc import Sequence


def pair_score(loss_i: float, loss_j: float) -> float:
    """000 Eq. 4: S = (L_j - L_i) / (L_j + L_i) in [-1, 1]; positive: i fits better. 0 if both losses are 0."""
    total = loss_j + loss_i
    return 0.0 if total == 0 else (loss_j - loss_i) / total


def scores(losses: Sequence[float]) -> list[float | None]:
    """000 Eq. 5: S_i of each candidate against the best of the others; None with one candidate (absent, not 1)."""
    if len(losses) < 2:
        return [None] * len(losses)
    result: list[float | None] = []
    for index, loss in enumerate(losses):
        others = min(value for j, value in enumerate(losses) if j != index)
        result.append(pair_score(loss, others))
    return result
