"""`ledger.wrap`: a callable or an `nn.Module` that does what it did, and is on the record.

Around one call: generator states and arguments are read, the call runs, its pictures are hashed, one entry per picture
is queued. Nothing is drawn from any generator of the program, so results and streams are bit-equal to those of the
unwrapped call whenever the caller supplied the randomness. Where the caller left the latent out it is drawn here from
committed seeds, one draw an image.

What the call raises passes through and is only counted: no picture was made. A call of the same model inside a recorded
call (a wrapped module inside a wrapped function) is not recorded a second time.
"""

from __future__ import annotations

import functools
import inspect
import sys
from collections.abc import Callable, Generator, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, replace
from types import GeneratorType
from typing import Any, cast

import numpy as np

from ...schemas.errors import SetupError, UsageError
from ...schemas.record import Grade
from .capture import Snapshot
from .core import CallFacts, KnownModel, LatentValue, Recorder, latent_value
from .environment import environment
from .frozen import COPY_BYTES, FrozenTensor, freeze, little_endian
from .latents import LatentInput, latent_input, pool_of
from .outputs import pictures
from .pool import LatentPool
from .target import Parameters, guarded_by, is_callable_object, module_of, name_of, signature_of
from .values import freeze_named
from .weights import WeightsGuard

STYLE_NAMES = frozenset(
    {"psi", "truncation", "truncation_psi", "cutoff", "truncation_cutoff", "noise_mode", "guidance_scale", "eta"}
)
"""Arguments that are recorded as style without being named by the caller of `wrap`."""

# per thread and per task: the models whose recorded calls are under way here
_running: ContextVar[frozenset[tuple[int, bytes]]] = ContextVar("plausible_running", default=frozenset())


def wrap(
    recorder: Recorder,
    target: Any,
    *,
    model: str,
    latent: str | tuple[int, ...] | LatentInput | None = None,  # noqa: A002, RUF100
    style: Sequence[str] = (),
    noise: Sequence[str] = (),
    device: Any = None,
    streams: str = "moved",
    tolerance: tuple[int, tuple[int, int]] | None = None,
    modules: Sequence[Any] = (),
    extra: Mapping[str, Any] | None = None,
    epoch: bool = False,
) -> Any:
    """A stand-in for `target` whose calls are recorded as generations of the registered `model`.

    target     any callable, or an `nn.Module`: then the stand-in is a module too, with the same attributes, and its
               weights must be those that were registered
    latent     the argument that is the latent: its name, a shape (then it is the first parameter), or a `LatentInput`.
               Where the call leaves it out (or passes an integer: how many) it is drawn from committed seeds.
               Not given: an argument named `z`, `latent` or `latents` with the shape of the model's latents is
               recorded as the latent, and nothing is ever drawn
    style, noise   names of arguments that are style or noise inputs
    device     where the computation runs, if it is neither the module's nor the latent's device
    streams    "moved": record generators whose state the call changed; "all": also those it left as they were
    tolerance  the author's word for how far a replay may differ: (levels of 255, (numerator, denominator))
    modules    further modules whose weights must not change while they are used
    extra      recorded as it is, in every record
    epoch      draw latents from the seeds that the ledger's open epoch fixed (`Ledger.open_epoch`), not from fresh ones

    Raises `SetupError` if the model is not registered or the weights are not its weights, `UsageError` for an unusable
    latent. The stand-in raises what `target` raises, and the same two.
    """
    known = recorder.model(model)
    module = module_of(target)
    signature = signature_of(target)
    spec = latent_input(latent, target, known)
    facts = RecordedCall(
        recorder=recorder,
        model=known,
        latent=spec,
        style=frozenset(style),
        noise=frozenset(noise),
        device=device,
        streams=streams,
        tolerance=tolerance,
        extra=extra,
        guards=tuple(WeightsGuard(item, known if item is module else None) for item in guarded_by(module, modules)),
        name=name_of(target),
        parameters=Parameters.of(signature) if signature else None,
        pool=pool_of(recorder, known, spec, epoch),
    )
    if module is not None or is_callable_object(target):
        from .proxy import object_proxy

        return object_proxy(target, facts)
    return function_proxy(target, facts)


def function_proxy(target: Callable[..., Any], facts: RecordedCall) -> Callable[..., Any]:
    """A function with the target's name, signature and documentation."""
    if inspect.iscoroutinefunction(target):

        @functools.wraps(target)
        async def recorded_coroutine(*args: Any, **kwargs: Any) -> Any:
            return await facts.call_async(target, args, kwargs)

        return recorded_coroutine

    @functools.wraps(target)
    def recorded_function(*args: Any, **kwargs: Any) -> Any:
        return facts.call(target, args, kwargs)

    return recorded_function


@dataclass(frozen=True, slots=True)
class RecordedCall:
    """What is known about a wrapped target before any call."""

    recorder: Recorder
    model: KnownModel
    latent: LatentInput | None
    style: frozenset[str]
    noise: frozenset[str]
    device: Any
    streams: str
    tolerance: tuple[int, tuple[int, int]] | None
    extra: Mapping[str, Any] | None
    guards: tuple[WeightsGuard, ...]
    name: str
    parameters: Parameters | None
    pool: LatentPool | None

    def call(self, target: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Run one call and record it. What a Python generator yields is recorded piece by piece."""
        if self.identity in _running.get():
            return target(*args, **kwargs)
        args, kwargs, run = self._start(args, kwargs)
        with _Inside(self):
            result = target(*args, **kwargs)
        if isinstance(result, GeneratorType):
            return self._iterate(cast("Generator[Any, Any, Any]", result), run)
        self._finish(run, result)
        return result

    async def call_async(self, target: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """The same for a coroutine function; tasks are told apart."""
        if self.identity in _running.get():
            return await target(*args, **kwargs)
        args, kwargs, run = self._start(args, kwargs)
        with _Inside(self):
            result = await target(*args, **kwargs)
        self._finish(run, result)
        return result

    def _iterate(self, generator: Generator[Any, Any, Any], run: _Run) -> Generator[Any, Any, Any]:
        step: Callable[[], Any] = functools.partial(next, generator)
        while True:
            # each piece draws on from where the program stands when it is asked for
            piece = replace(run, snapshot=Snapshot(run.values, streams=self.streams))
            try:
                with _Inside(self):
                    item = step()
            except StopIteration as stop:
                return stop.value
            self._finish(piece, item)
            try:
                sent = yield item
            except GeneratorExit:
                generator.close()
                raise
            except BaseException as error:  # noqa: BLE001  (handed to the generator, as an unwrapped one would get it)
                step = functools.partial(generator.throw, error)
            else:
                step = functools.partial(generator.send, sent)

    @property
    def identity(self) -> tuple[int, bytes]:
        """The ledger and the model: calls of the same pair inside each other are one generation."""
        return id(self.recorder), self.model.digest

    def _start(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any], _Run]:
        """What has to be read before the call; committed latents are put in their place."""
        for guard in self.guards:
            guard.check()
        args, kwargs, committed = self._supply_latents(args, kwargs)
        arguments = self._bind(args, kwargs)
        snapshot = Snapshot(arguments, streams=self.streams)
        return args, kwargs, self._read(arguments, snapshot, committed)

    def _finish(self, run: _Run, result: Any) -> None:
        """Hash what came out and queue one entry per picture."""
        streams = tuple(run.snapshot.used())
        made = pictures(result, self.model.rounding)
        count = len(made)
        latents = run.latents
        if latents is not None and len(latents) != count:
            if self.latent is not None and self.latent.draw:
                raise UsageError(
                    f"{self.name} returned {count} pictures for {len(latents)} latents: say which argument is the "
                    "latent, and what its batch is"
                )
            latents = None  # only recognised by its name and shape: it was something else
        facts = CallFacts(
            callable=self.name,
            arguments=run.frozen,
            environment=environment(self.device or run.device, run.dtype),
            streams=streams,
            style=run.style,
            noise=run.noise,
            tolerance=self.recorder.tolerance(self.tolerance),
            extra=self.recorder.recorded_extra(self.extra),
        )
        draws = run.draws or self.recorder.draws(count)
        self.recorder.submit(self.model, made, facts, draws=draws, latents=latents or [None] * count)

    # --- arguments ---

    def _bind(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
        """Arguments by name, after defaults."""
        if self.parameters is not None:
            try:
                return self.parameters.bind(args, kwargs)
            except TypeError:
                pass  # the call itself will say it better
        return {f"arg{number}": value for number, value in enumerate(args)} | kwargs

    def _read(self, arguments: dict[str, Any], snapshot: Snapshot, committed: _Committed | None) -> _Run:
        style: dict[str, tuple[Any, Grade]] = {}
        noise: dict[str, tuple[Any, Grade]] = {}
        others: dict[str, Any] = {}
        drawn = committed.frozen if committed else {}
        for name, value in arguments.items():
            if value is not None and (name in self.style or name in STYLE_NAMES):
                style |= freeze_named(name, value, self._style_grade(name, value))
            elif value is not None and name in self.noise:
                noise |= freeze_named(name, value, "captured")
            else:
                # arrays are taken over now: the call may change them in place
                others[name] = drawn[name] if name in drawn else freeze(value)
        device, dtype = self._place(arguments)
        return _Run(
            values=arguments,
            frozen=others,
            style=style or None,
            noise=noise or None,
            device=device,
            dtype=dtype,
            snapshot=snapshot,
            latents=committed.values if committed else self._given_latents(arguments, others),
            draws=committed.draws if committed else None,
        )

    def _style_grade(self, name: str, value: Any) -> Grade:
        sampling = cast("dict[str, Any]", self.model.manifest["sampling"])
        plain = {"truncation_psi": "psi", "truncation": "psi", "truncation_cutoff": "cutoff"}.get(name, name)
        default = sampling.get(plain)
        return "fixed" if default is not None and _equals_default(value, default) else "captured"

    def _place(self, arguments: Mapping[str, Any]) -> tuple[Any, str]:
        for guard in self.guards:
            if guard.device is not None:
                return guard.device, guard.dtype
        value: Any = arguments.get(self.latent.name) if self.latent else None
        torch = sys.modules.get("torch")
        if torch is not None and isinstance(value, torch.Tensor):
            return value.device, str(value.dtype).removeprefix("torch.")
        return None, "float32"

    # --- latents ---

    def _given_latents(
        self, arguments: Mapping[str, Any], frozen: Mapping[str, Any]
    ) -> list[LatentValue | None] | None:
        """What the caller passed as the latent, one per image; None where nothing is known of it."""
        if self.latent is None:
            return None
        value: Any = arguments.get(self.latent.name)
        if value is None or not hasattr(value, "shape") or not len(value.shape):
            return None
        if not self.latent.draw and self.latent.shape not in (tuple(value.shape), tuple(value.shape[1:])):
            return None
        prior = self.latent.prior or "normal"
        kept = frozen.get(self.latent.name)
        if self.latent.shape is not None and tuple(value.shape) == self.latent.shape:
            rows: list[Any] = [value]
        else:
            rows = (kept.rows() if isinstance(kept, FrozenTensor) else None) or list(value)
        return [latent_value(row, prior=prior) for row in rows]

    def _supply_latents(
        self, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any], _Committed | None]:
        """Draw the latents the caller left out, and put them where they belong."""
        spec = self.latent
        if spec is None or not spec.draw:
            return args, kwargs, None
        names = self.parameters.names if self.parameters else ()
        place = names.index(spec.name) if spec.name in names else None
        given: Any = None
        if spec.name in kwargs:
            given = kwargs[spec.name]
        elif place is not None and place < len(args):
            given = args[place]
        count = self._count(spec, given, args, kwargs)
        if count is None:
            return args, kwargs, None
        if self.pool is None:
            raise UsageError(
                f"the latent {spec.name!r} cannot be drawn here, since its "
                + ("shape is not known" if spec.shape is None else f"prior is {spec.prior!r}")
                + f": pass it, or wrap with latent=LatentInput({spec.name!r}, shape, 'normal' or 'sphere')"
            )
        drawn = self.pool.take(count)
        prior = spec.prior or "normal"
        values: list[LatentValue | None] = [
            LatentValue(
                "float32",
                item.z.shape,
                little_endian(item.z),
                prior,
                item.seed.secret,
                "committed-fresh" if item.seed.epoch is None else "committed-epoch",
                item.seed.epoch,
            )
            for item in drawn
        ]
        stacked = np.stack([item.z for item in drawn]) if count > 1 else drawn[0].z[None]
        z = self._to_input(stacked)
        if place is not None and place < len(args):
            args = (*args[:place], z, *args[place + 1 :])
        else:
            kwargs = {**kwargs, spec.name: z}
        frozen: dict[str, FrozenTensor] = {}
        if stacked.nbytes <= COPY_BYTES and (z is stacked or str(z.dtype) == "torch.float32"):
            frozen[spec.name] = FrozenTensor("float32", stacked.shape, b"".join(v.data for v in values if v))
        return args, kwargs, _Committed([item.draw for item in drawn], values, frozen)

    def _count(self, spec: LatentInput, given: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> int | None:
        """How many latents to draw; None where the caller supplied them."""
        if isinstance(given, int) and not isinstance(given, bool):
            count = given
        elif given is not None:
            return None
        elif isinstance(spec.batch, int):
            count = spec.batch
        else:
            found = self._bind(args, kwargs).get(spec.batch)
            count = found if isinstance(found, int) and not isinstance(found, bool) else 1
        if count < 1:
            raise UsageError(f"{count} latents cannot be drawn")
        return count

    def _to_input(self, z: Any) -> Any:
        torch = sys.modules.get("torch")
        if torch is None:
            return z
        tensor: Any = torch.from_numpy(z)
        for guard in self.guards:
            if guard.device is not None:
                return tensor.to(guard.device, guard.torch_dtype)
        return tensor if self.device is None else tensor.to(self.device)


class _Inside:
    """While a recorded call runs: calls of the same model in it are not recorded again, its exceptions are counted."""

    __slots__ = ("_call", "_token")

    def __init__(self, call: RecordedCall) -> None:
        self._call = call

    def __enter__(self) -> None:
        self._token = _running.set(_running.get() | {self._call.identity})

    def __exit__(self, kind: type[BaseException] | None, value: object, traceback: object) -> None:
        _running.reset(self._token)
        if kind is not None and not issubclass(kind, StopIteration):
            self._call.recorder.count_exception()


@dataclass(frozen=True, slots=True)
class _Committed:
    draws: list[int]
    values: list[LatentValue | None]
    frozen: dict[str, FrozenTensor]
    """The latent argument as it is recorded, where it is what was drawn and not a cast of it."""


@dataclass(frozen=True, slots=True)
class _Run:
    """What was read before one call."""

    values: dict[str, Any]
    frozen: dict[str, Any]
    style: dict[str, tuple[Any, Grade]] | None
    noise: dict[str, tuple[Any, Grade]] | None
    device: Any
    dtype: str
    snapshot: Snapshot
    latents: list[LatentValue | None] | None
    draws: list[int] | None


def _equals_default(value: Any, recorded: Any) -> bool:
    from ...schemas import jcs

    default = jcs.unwrap_value(recorded)
    return type(value) in (int, float, str, bool) and value == default


__all__ = ["LatentInput", "SetupError", "function_proxy", "wrap"]
