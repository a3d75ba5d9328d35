"""`with ledger.generation(model=...) as g`: one generation written out by hand, for code that `wrap` does not fit.

    with ledger.generation(model="faces") as g:
        z = g.latent((1, 100))          # committed: drawn from this generation's seeds, one draw an image
        g.output(decoder(z))            # one entry per picture

Generator states are read on entering and compared on `output`. A block that raises records nothing.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any, Self

import numpy as np

from ...schemas.errors import UsageError
from ..entries.digests import file_digest
from ..seeds.committed import derive, latent
from ..writing.receipt import Receipt
from .capture import Snapshot
from .core import CallFacts, LatentValue, Recorder, freeze_inputs, latent_value
from .environment import environment
from .frozen import freeze
from .outputs import pictures


class Generation:
    """One generation being made; `receipts` holds what its outputs were given."""

    def __init__(
        self,
        recorder: Recorder,
        *,
        model: str,
        callable: str = "generation",  # noqa: A002  (the record's own word)
        arguments: Mapping[str, Any] | None = None,
        style: Mapping[str, Any] | None = None,
        noise: Mapping[str, Any] | None = None,
        device: Any = None,
        dtype: str = "float32",
        streams: str = "moved",
        tolerance: tuple[int, tuple[int, int]] | None = None,
        extra: Mapping[str, Any] | None = None,
        epoch: bool = False,
    ) -> None:
        """`arguments`, `style` and `noise` are recorded as given; the rest as in `wrap`."""
        self._epoch = epoch
        self._recorder = recorder
        self._model = recorder.model(model)
        self._callable = callable
        self._arguments = dict(arguments or {})
        self._style, self._noise = style, noise
        self._device, self._dtype = device, dtype
        self._streams = streams
        self._tolerance, self._extra = tolerance, extra
        self._snapshot: Snapshot | None = None
        self._frozen: dict[str, Any] = {}
        self._latents: list[LatentValue | None] = []
        self._draws: list[int] = []
        self._open = False
        self.receipts: list[Receipt] = []

    def __enter__(self) -> Self:
        self._snapshot = Snapshot(self._arguments, streams=self._streams)
        self._frozen = freeze(self._arguments)
        self._open = True
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._open = False
        if value is not None:
            self._recorder.count_exception()

    def latent(self, shape: Sequence[int], *, prior: str | None = None, batch: bool = True) -> Any:
        """A committed latent: float32, a torch tensor if torch is loaded, else an array.

        With `batch` the first axis of `shape` counts images, each with a draw of its own; without it the latent is of
        one image and has no such axis. Called again it goes on with further images.
        """
        self._require_open()
        known = self._model.latent
        prior = prior or (known[1] if known else "normal")
        axes = tuple(int(axis) for axis in shape)
        if batch and not axes:
            raise UsageError("a batch of latents has at least one axis")
        count, rest = (axes[0], axes[1:]) if batch else (1, axes)
        rows: list[Any] = []
        for seed in self._recorder.seeds(count, epoch=self._epoch):
            author, _ = self._recorder.ledger.chain_of(seed.draw)
            row = latent(derive(seed.secret, self._model.digest, author, seed.draw), rest, prior)
            rows.append(row)
            self._latents.append(latent_value(row, prior=prior, seed_secret=seed.secret, epoch=seed.epoch))
            self._draws.append(seed.draw)
        z = np.stack(rows) if batch else rows[0]
        torch = sys.modules.get("torch")
        if torch is None:
            return z
        tensor = torch.from_numpy(np.ascontiguousarray(z))
        return tensor if self._device is None else tensor.to(self._device)

    def captured_latent(self, value: Any, *, prior: str | None = None) -> None:
        """Record a latent the program made itself, one image's, without the batch axis."""
        self._require_open()
        known = self._model.latent
        self._latents.append(latent_value(value, prior=prior or (known[1] if known else "normal")))
        self._draws += self._recorder.draws(1)

    def output(self, image: Any, *, file: bytes | None = None) -> list[Receipt]:
        """Record the pictures that came out: in order those of the latents, if there are any.

        `file`: the bytes of the file the (one) picture was saved as.
        """
        self._require_open()
        if self.receipts:
            raise UsageError("a generation has one output: a list of pictures, or a block for each")
        made = pictures(image, self._model.rounding)
        if self._latents and len(self._latents) != len(made):
            raise UsageError(f"{len(made)} pictures came out for {len(self._latents)} latents")
        if file is not None and len(made) != 1:
            raise UsageError("file= goes with one picture")
        assert self._snapshot is not None  # noqa: S101  (set on entering)
        streams = tuple(self._snapshot.used())
        facts = CallFacts(
            callable=self._callable,
            arguments=self._frozen,
            environment=environment(self._device, self._dtype),
            streams=streams,
            style=freeze_inputs(self._style),
            noise=freeze_inputs(self._noise),
            tolerance=self._recorder.tolerance(self._tolerance),
            extra=self._recorder.recorded_extra(self._extra),
        )
        self.receipts = self._recorder.submit(
            self._model,
            made,
            facts,
            draws=self._draws or self._recorder.draws(len(made)),
            latents=self._latents or [None] * len(made),
            files=None if file is None else [file_digest(file)],
        )
        return self.receipts

    def _require_open(self) -> None:
        if not self._open:
            raise UsageError("use the generation inside its with block")
