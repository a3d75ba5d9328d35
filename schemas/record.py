"""The private record of one generation, `plausible.record/1`: ten fields in a fixed order, each absent as null.

A record is committed to field by field (`ledger/entries/record.py`), so a court may get the seed and not the prompt.
Numbers in free JSON are integers or wrapped (`jcs.wrap_value`). Every field name stands in docs/spec/record.md.
"""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal, Self, TypeAlias

from pydantic import Field, StringConstraints, model_validator

from .document import Base64Text, DigestText, Document, Hex32, Hex64, Recorded, SafeInt, VkeyText, Word
from .errors import EvidenceError, UsageError

FORMAT: Final = "plausible.record/1"
FIELDS: Final = (
    "context", "rng", "latent", "style", "noise", "call", "environment", "output", "tolerance", "extra",
)  # fmt: skip
"""Names of the ten fields; the position of a name is its leaf's index in the commitment."""
REPLAY_FIELDS: Final = FIELDS[:8]
"""What an opening discloses so that a replay can be run; `tolerance` too where it is used."""

Grade: TypeAlias = Literal["committed-epoch", "committed-fresh", "fixed", "captured"]
GRADES: Final[tuple[Grade, ...]] = ("fixed", "committed-epoch", "committed-fresh", "captured")
"""Strongest to weakest, by what the author could choose: nothing, log2(count) bits, log2(tries) bits, everything."""

Axis = Annotated[int, Field(ge=0, le=2**31 - 1)]
Shape = Annotated[tuple[Axis, ...], Field(max_length=16)]
Dtype = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]{2,31}$")]
Positive = Annotated[int, Field(ge=1, le=2**31 - 1)]


class Context(Document):
    """Ties a record to its entry: always disclosed, and equal to what the entry says."""

    author: VkeyText
    chain: Hex32
    draw: SafeInt
    file: DigestText | None
    model: DigestText
    pixels: DigestText


class RngSource(Document):
    """State of one random number generator before the call; `sha256` of the state's bytes, `state` the bytes."""

    algorithm: Word
    device: Word
    sha256: DigestText
    state: Base64Text | None = None


class Rng(Document):
    """The generators whose state the call changed, in the order they were found."""

    grade: Grade = "captured"
    sources: Annotated[tuple[RngSource, ...], Field(min_length=1, max_length=64)]


class Epoch(Document):
    """Where a seed stands in a published epoch: the entry's leaf hash, its range, and the path from leaf to root."""

    count: Annotated[int, Field(ge=1, le=2**53 - 1)]
    entry: DigestText
    first_draw: SafeInt
    path: Annotated[tuple[DigestText, ...], Field(max_length=53)]


class Latent(Document):
    """The latent of this image, without the batch axis: its tensor digest, and how it came about.

    `prior` is `normal` or `sphere` where it can be derived or tested; `values` are little-endian contiguous bytes.
    """

    dtype: Dtype
    epoch: Epoch | None = None
    grade: Grade
    prior: Word
    seed_secret: Hex64 | None = None
    sha256: DigestText
    shape: Shape
    values: Base64Text | None = None

    @model_validator(mode="after")
    def _grade_has_its_proof(self) -> Self:
        committed = self.grade.startswith("committed-")
        if committed != (self.seed_secret is not None):
            raise EvidenceError("latent: a seed_secret belongs to the committed grades, and to no other")
        if committed and (self.prior not in ("normal", "sphere") or self.dtype != "float32"):
            raise EvidenceError("latent: committed seeds are float32 of the normal or sphere prior")
        if (self.grade == "committed-epoch") != (self.epoch is not None):
            raise EvidenceError("latent: an epoch belongs to the grade committed-epoch, and to no other")
        return self


class Tensor(Document):
    """An array input: torch's word for its type, its shape, its tensor digest, and its bytes where they were kept."""

    dtype: Dtype
    sha256: DigestText
    shape: Shape
    values: Base64Text | None = None


class Input(Document):
    """A named style or noise input: a recorded value, or an array, or a picture (by pixel digest)."""

    grade: Grade
    image: DigestText | None = None
    tensor: Tensor | None = None
    value: Recorded = None

    @model_validator(mode="after")
    def _one_form(self) -> Self:
        if sum(form is not None for form in (self.image, self.tensor, self.value)) > 1:
            raise EvidenceError("an input is a value, a tensor or an image, not several of them")
        return self


Inputs: TypeAlias = dict[Word, Input]


class Batch(Document):
    """How many images the call made, and which of them this one is."""

    index: SafeInt
    size: Positive

    @model_validator(mode="after")
    def _index_lies_in_the_batch(self) -> Self:
        if self.index >= self.size:
            raise EvidenceError("call.batch: index is not below size")
        return self


class Call(Document):
    """What was called with what: arguments by name, after defaults, in recorded form.

    Beside JSON and wrapped numbers an argument may be `{"input": "latent"}` (or "style.NAME", "noise.NAME": the input
    recorded there, or the batch it is of), `{"rng": i}` (source i of `rng`), `{"model": D}`, `{"tensor": Tensor}`,
    `{"image": D}`, `{"bytes": D}` or `{"opaque": "module.Class"}`.
    """

    arguments: dict[Word, Recorded]
    batch: Batch
    callable: Word


class Device(Document):
    """What computed: `name` of CPU or accelerator, `isa` the instruction set level or compute capability."""

    isa: Word | None
    name: Word
    threads: Positive | None


class Environment(Document):
    """What a replay must equal before a difference refutes anything."""

    device: Device
    dtype: Dtype
    flags: dict[Word, Recorded]
    numpy: Word
    plausible: Word
    python: Word
    torch: Word | None


class Output(Document):
    """What came out: the picture, its file and the tensor before rounding (tensor digest), where known."""

    file: DigestText | None = None
    height: Positive
    mode: Literal["RGB", "RGBA"]
    pixels: DigestText
    tensor: DigestText | None = None
    width: Positive


class Tolerance(Document):
    """The author's word for how far a replay may differ: `levels` of 255 on at most `fraction` of the samples."""

    fraction: tuple[SafeInt, Annotated[int, Field(ge=1, le=2**53 - 1)]]
    levels: Annotated[int, Field(ge=0, le=255)]

    @model_validator(mode="after")
    def _at_most_all(self) -> Self:
        if self.fraction[0] > self.fraction[1]:
            raise EvidenceError("tolerance: a fraction is at most 1")
        return self


class Record(Document):
    """One generation, as kept in the vault."""

    format: Literal["plausible.record/1"] = FORMAT
    context: Context
    rng: Rng | None = None
    latent: Latent | None = None
    style: Inputs | None = None
    noise: Inputs | None = None
    call: Call | None = None
    environment: Environment | None = None
    output: Output | None = None
    tolerance: Tolerance | None = None
    extra: Recorded = None

    @model_validator(mode="after")
    def _output_is_the_contexts(self) -> Self:
        output = self.output
        if output is not None and (output.pixels, output.file) != (self.context.pixels, self.context.file):
            raise EvidenceError("record: output's digests are not context's")
        return self

    def field(self, name: str) -> Any:
        """The JSON value of one of the ten fields, as it is committed to."""
        if name not in FIELDS:
            raise UsageError(f"a record has no field {name!r}")
        return self.to_json()[name]


def weakest(grades: list[Grade]) -> Grade:
    """The weakest of some grades; `captured` where there is none, since then nothing is known about the inputs."""
    for grade in reversed(GRADES):
        if grade in grades:
            return grade
    return "captured"


def weakest_grade(record: Record) -> Grade:
    """The grade of a record: that of its weakest input among rng, latent, style and noise."""
    grades: list[Grade] = [part.grade for part in (record.rng, record.latent) if part is not None]
    for inputs in (record.style, record.noise):
        grades.extend(item.grade for item in (inputs or {}).values())
    return weakest(grades)
