"""The core under `wrap`, `record`, `generation` and `append`: from what happened to a submission.

The caller's thread does what cannot wait: states and arguments are read before the call, outputs hashed after it. The
record, its commitment and everything durable are made in the writer's thread (`Captured.seal`).
"""

from __future__ import annotations

import hashlib
import secrets
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from ...schemas import jcs
from ...schemas.errors import UsageError
from ...schemas.record import (
    Batch,
    Call,
    Context,
    Environment,
    Epoch,
    Grade,
    Input,
    Latent,
    Output,
    Record,
    Rng,
    RngSource,
    Tolerance,
)
from ...schemas.text import b64, digest_text, parse_digest
from ..entries.digests import file_digest, tensor_digest
from ..entries.record import commit_encoded, new_record_secret
from ..seeds.committed import new_seed_secret
from ..seeds.epochs import Seed
from ..vault.vault import GENERATION, Submission
from ..writing.receipt import Receipt
from .capture import ARGUMENT, Stream, encode_state
from .environment import environment
from .frozen import FrozenTensor, freeze, tensor_bytes
from .outputs import Picture, Rounding, pictures
from .values import freeze_named, record_arguments, record_inputs, record_value

if TYPE_CHECKING:
    from ..ledger import Ledger

PRIORS = ("normal", "sphere")


@dataclass(frozen=True, slots=True)
class LatentValue:
    """The latent of one image, without the batch axis: little-endian bytes, and its seed's secret if committed."""

    dtype: str
    shape: tuple[int, ...]
    data: bytes = field(repr=False)
    prior: str
    seed_secret: bytes | None = None
    grade: Grade = "captured"
    epoch: Epoch | None = None

    def document(self) -> Latent:
        """The record's field; values are kept, since the stored bytes decide at replay."""
        return Latent(
            dtype=self.dtype,
            epoch=self.epoch,
            grade=self.grade,
            prior=self.prior,
            seed_secret=None if self.seed_secret is None else self.seed_secret.hex(),
            sha256=digest_text(tensor_digest(self.dtype, self.shape, self.data)),
            shape=self.shape,
            values=b64(self.data),
        )


@dataclass(frozen=True, slots=True)
class KnownModel:
    """What recording needs of a registered model."""

    name: str
    digest: bytes
    rounding: Rounding | None
    manifest: Mapping[str, Any] = field(repr=False)

    @property
    def latent(self) -> tuple[tuple[int, ...], str] | None:
        """(shape without the batch axis, prior) as the manifest's config says, if it does."""
        config = cast("dict[str, Any]", jcs.unwrap_value(self.manifest["config"]))
        size = config.get("latent")
        prior = config.get("prior", "normal")
        if isinstance(size, int) and not isinstance(size, bool) and size > 0:
            return (size,), str(prior)
        if isinstance(size, list) and size and all(isinstance(axis, int) for axis in cast("list[Any]", size)):
            return tuple(cast("list[int]", size)), str(prior)
        return None


@dataclass(frozen=True, slots=True)
class CallFacts:
    """What one call was, shared by its images."""

    callable: str
    arguments: Mapping[str, Any] = field(repr=False)
    """Frozen arguments by name."""
    environment: Environment
    streams: tuple[Stream, ...] = field(default=(), repr=False)
    style: Mapping[str, tuple[Any, Grade]] | None = field(default=None, repr=False)
    noise: Mapping[str, tuple[Any, Grade]] | None = field(default=None, repr=False)
    tolerance: Tolerance | None = None
    extra: Any = field(default=None, repr=False)
    made: list[CallDocuments] = field(default_factory=list["CallDocuments"], repr=False)
    """The documents, once the first image's record was made: a batch shares them."""

    def documents(self) -> CallDocuments:
        """The parts of a record that all images of the call share."""
        if not self.made:
            sources = tuple(_source(stream) for stream in self.streams)
            self.made.append(
                CallDocuments(
                    arguments=_with_references(record_arguments(self.arguments), self.streams),
                    rng=Rng(sources=sources) if sources else None,
                    style=record_inputs(self.style),
                    noise=record_inputs(self.noise),
                )
            )
        return self.made[0]


@dataclass(frozen=True, slots=True)
class CallDocuments:
    """Shared parts of the records of one call."""

    arguments: dict[str, Any]
    rng: Rng | None
    style: dict[str, Input] | None
    noise: dict[str, Input] | None


@dataclass(frozen=True, slots=True)
class Captured:
    """One image that was made: all that its record will say."""

    author: str
    chain: bytes
    model: KnownModel
    draw: int
    picture: Picture
    file: bytes | None
    latent: LatentValue | None
    call: CallFacts
    index: int
    size: int

    def record(self) -> Record:
        """The private record."""
        file = None if self.file is None else digest_text(self.file)
        shown, tensor = self.picture.developed(), self.picture.tensor
        pixels = digest_text(shown.digest)
        shared = self.call.documents()
        return Record(
            context=Context(
                author=self.author,
                chain=self.chain.hex(),
                draw=self.draw,
                file=file,
                model=digest_text(self.model.digest),
                pixels=pixels,
            ),
            rng=shared.rng,
            latent=None if self.latent is None else self.latent.document(),
            style=shared.style,
            noise=shared.noise,
            call=Call(
                arguments=shared.arguments,
                batch=Batch(index=self.index, size=self.size),
                callable=self.call.callable,
            ),
            environment=self.call.environment,
            output=Output(
                file=file,
                height=shown.height,
                mode="RGBA" if shown.mode == "RGBA" else "RGB",
                pixels=pixels,
                tensor=None if tensor is None else digest_text(tensor.digest),
                width=shown.width,
            ),
            tolerance=self.call.tolerance,
            extra=self.call.extra,
        )

    def seal(self, key: bytes) -> Submission:
        """The record with a fresh secret, committed to; runs in the writer's thread."""
        record, secret = self.record(), new_record_secret()
        commitment, encoded = commit_encoded(record, secret)
        return Submission(
            key=key,
            kind=GENERATION,
            model=self.model.digest,
            name=self.model.name,
            draw=self.draw,
            pixels=parse_digest(record.context.pixels),
            file=self.file,
            commitment=commitment,
            secret=secret,
            record=encoded,
        )


def _source(stream: Stream) -> RngSource:
    algorithm, state = encode_state(stream)
    return RngSource(
        algorithm=algorithm,
        device=stream.device or "cpu",
        sha256=digest_text(hashlib.sha256(state).digest()),
        state=b64(state),
    )


def _with_references(recorded: dict[str, Any], streams: Sequence[Stream]) -> dict[str, Any]:
    """Generators among the arguments as {"rng": place in rng.sources}."""
    for place, stream in enumerate(streams):
        if not stream.name.startswith(f"{ARGUMENT}:"):
            continue
        path = stream.name.removeprefix(f"{ARGUMENT}:")
        if path in recorded:
            recorded[path] = {"rng": place}
            continue
        base, _, number = path.removesuffix("]").rpartition("[")
        items = recorded.get(base)
        if isinstance(items, list) and number.isdecimal():
            cast("list[Any]", items)[int(number)] = {"rng": place}
    return recorded


class Recorder:
    """Recording into one ledger; thread-safe, re-entrant."""

    def __init__(self, ledger: Ledger) -> None:
        self.ledger = ledger
        self._lock = threading.Lock()
        self._models: dict[str, KnownModel] = {}

    def after_fork(self) -> None:
        """In a forked child: another thread may have held the lock."""
        self._lock = threading.Lock()

    def model(self, name: str) -> KnownModel:
        """A registered model; `SetupError` that says how to register it if there is none of this name."""
        known = self._models.get(name)
        if known is not None:
            return known
        registered = self.ledger.model(name)
        manifest = registered.manifest()
        sampling = cast("dict[str, Any]", jcs.unwrap_value(manifest["sampling"]))
        limits = sampling.get("output_range")
        rounding = None
        if isinstance(limits, list) and len(cast("list[Any]", limits)) == 2:
            low, high = cast("list[Any]", limits)
            rounding = Rounding(str(sampling["rounding"]), float(low), float(high))
        known = KnownModel(name, registered.digest, rounding, manifest)
        with self._lock:
            return self._models.setdefault(name, known)

    def count_exception(self) -> None:
        """A recorded call raised: nothing was made, nothing is logged."""
        self.ledger.counters.exceptions += 1

    def tolerance(self, given: tuple[int, tuple[int, int]] | None) -> Tolerance | None:
        """The author's tolerance as a document."""
        return None if given is None else Tolerance(levels=given[0], fraction=given[1])

    def recorded_extra(self, given: Any) -> Any:
        """Free data in recorded form."""
        if given is None:
            return None
        return jcs.wrap_value(freeze(given), record_value)

    def draws(self, count: int) -> list[int]:
        """Durably reserved draws for `count` images."""
        return self.ledger.take_draws(count)

    def seeds(self, count: int, *, epoch: bool = False) -> list[Seed]:
        """Draws with a seed each: fresh ones, or those that the open epoch fixed."""
        if epoch:
            return self.ledger.take_seeds(count)
        return [Seed(draw, new_seed_secret(), None) for draw in self.draws(count)]

    def submit(
        self,
        model: KnownModel,
        made: Sequence[Picture],
        call: CallFacts,
        *,
        draws: Sequence[int],
        latents: Sequence[LatentValue | None],
        files: Sequence[bytes | None] | None = None,
    ) -> list[Receipt]:
        """One entry per picture of a call."""
        receipts: list[Receipt] = []
        for index, picture in enumerate(made):
            author, chain = self.ledger.chain_of(draws[index])
            captured = Captured(
                author=author,
                chain=chain,
                model=model,
                draw=draws[index],
                picture=picture,
                file=None if files is None else files[index],
                latent=latents[index],
                call=call,
                index=index,
                size=len(made),
            )
            key = secrets.token_bytes(16)
            receipts.append(self.ledger.submit(key, lambda captured=captured, key=key: captured.seal(key)))
        return receipts

    def append(
        self,
        *,
        image: Any,
        model: str,
        latent: Any = None,
        prior: str | None = None,
        seed_secret: bytes | None = None,
        draw: int | None = None,
        seed: Seed | None = None,
        file: bytes | None = None,
        streams: Sequence[Stream] = (),
        style: Mapping[str, Any] | None = None,
        noise: Mapping[str, Any] | None = None,
        call: Mapping[str, Any] | None = None,
        callable: str = "append",  # noqa: A002  (the record's own word)
        device: Any = None,
        dtype: str = "float32",
        tolerance: tuple[int, tuple[int, int]] | None = None,
        extra: Any = None,
    ) -> Receipt:
        """Log one finished image that was made elsewhere in the program.

        image    a PIL image, uint8 [H, W, C], or floats [C, H, W] on the model's output range
        latent   its latent without the batch axis (array or tensor), recorded as `captured`; `prior` "normal" or
                 "sphere" where it was drawn from one. With `seed_secret` and `draw` (from `take_draws`, before the
                 image was made) it is `committed-fresh`; with `seed` (from `take_seeds`) it is
                 `committed-epoch`
        file     the bytes of the file it was saved as, if it was: their digest is logged too
        streams  generator states read before the call (`recorder.capture.Snapshot(...).used()`)
        style, noise, call   named inputs; tolerance (levels of 255, (numerator, denominator) of the samples)
        """
        known = self.model(model)
        made = pictures(image, known.rounding)
        if len(made) != 1:
            raise UsageError(f"append logs one image, not {len(made)}: call it for each, or use wrap")
        if seed is not None:
            if seed_secret is not None or draw is not None:
                raise UsageError("a seed of an epoch brings its own seed_secret and draw")
            seed_secret, draw = seed.secret, seed.draw
        if (seed_secret is None) != (draw is None):
            raise UsageError("a committed latent needs both its seed_secret and its draw")
        value = None
        if latent is not None:
            prior = prior or (known.latent[1] if known.latent else "normal")
            epoch = None if seed is None else seed.epoch
            value = latent_value(latent, prior=prior, seed_secret=seed_secret, epoch=epoch)
        elif seed_secret is not None:
            raise UsageError("a seed_secret without its latent")
        facts = CallFacts(
            callable=callable,
            arguments=freeze(dict(call or {})),
            environment=environment(device, dtype),
            streams=tuple(streams),
            style=freeze_inputs(style),
            noise=freeze_inputs(noise),
            tolerance=self.tolerance(tolerance),
            extra=self.recorded_extra(extra),
        )
        [receipt] = self.submit(
            known,
            made,
            facts,
            draws=[draw] if draw is not None else self.draws(1),
            latents=[value],
            files=[None if file is None else file_digest(file)],
        )
        return receipt


def freeze_inputs(inputs: Mapping[str, Any] | None) -> dict[str, tuple[Any, Grade]] | None:
    """Named style or noise inputs given by the caller."""
    named: dict[str, tuple[Any, Grade]] = {}
    for name, value in (inputs or {}).items():
        named |= freeze_named(name, value, "captured")
    return named or None


def latent_value(
    value: Any,
    *,
    prior: str,
    seed_secret: bytes | None = None,
    grade: Grade | None = None,
    epoch: Epoch | None = None,
) -> LatentValue:
    """A latent array or tensor, without its batch axis, as it stands in a record."""
    if isinstance(value, FrozenTensor) and value.data is not None:
        dtype, shape, data = value.dtype, value.shape, value.data
    else:
        dtype, shape, data = tensor_bytes(value if hasattr(value, "shape") else np.asarray(value, dtype=np.float32))
    if grade is None:
        grade = "captured" if seed_secret is None else "committed-fresh" if epoch is None else "committed-epoch"
    return LatentValue(dtype, shape, data, prior, seed_secret, grade, epoch)


__all__ = ["CallFacts", "Captured", "KnownModel", "LatentValue", "Recorder", "freeze_inputs", "latent_value"]
