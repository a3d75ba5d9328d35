"""The manifest whose JCS digest is a model's identity. Source: docs/spec/digests.md."""

from __future__ import annotations

import itertools
from typing import Literal, Self

from pydantic import model_validator

from .document import DigestText, Document, Recorded, Word
from .errors import EvidenceError
from .record import Dtype, Shape

MAX_MANIFEST_BYTES = 32 * 1024 * 1024

Rounding = Literal["mul255_add0.5_floor", "mul127.5_add128_trunc", "round_half_even_255"]


class Sampling(Document):
    """Constants and defaults of the path from latent to picture; null where a model has no such thing."""

    cutoff: Recorded
    noise_mode: Recorded
    output_range: Recorded
    psi: Recorded
    rounding: Rounding


class TensorRow(Document):
    """One tensor of the state_dict; `sha256` is its tensor digest."""

    dtype: Dtype
    name: Word
    sha256: DigestText
    shape: Shape


class Manifest(Document):
    """Architecture, configuration, sampling constants and every tensor, sorted by UTF-8 name."""

    architecture: Word
    config: dict[str, Recorded]
    sampling: Sampling
    tensors: tuple[TensorRow, ...]

    @model_validator(mode="after")
    def _tensors_sorted(self) -> Self:
        names = [row.name.encode("utf-8") for row in self.tensors]
        if any(one >= other for one, other in itertools.pairwise(names)):
            raise EvidenceError("manifest: tensors are not sorted by name, or one is named twice")
        return self
