"""Reading random number generators before a call, without moving them.

The global streams of torch (CPU, and every CUDA device once CUDA is in use), numpy and `random`, and any generator
among the arguments. torch and numpy are looked at only if the program has loaded them. After the
call the streams are read again: a global stream that did not move gave no number to the call and is left out of the
record (`streams="all"` keeps it, for code that saves and restores a stream inside the call). Generators given as
arguments are always kept.

Reading never draws: the streams after a recorded call are bit-equal to those after an unrecorded one.
"""

from __future__ import annotations

import functools
import random
import struct
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, cast

from ...schemas import jcs
from ...schemas.errors import EvidenceError, SetupError, UsageError
from ...schemas.text import b64, unb64

TORCH_CPU = "torch.cpu"
TORCH_CUDA = "torch.cuda"
NUMPY = "numpy"
PYTHON = "python"
ARGUMENT = "argument"


@dataclass(frozen=True, slots=True)
class Stream:
    """A stream's state at one moment.

    `name`: "torch.cpu", "torch.cuda:0", "numpy", "python", or "argument:PATH" with the argument's path ("generator",
    "generator[1]"). `kind`: "torch.Generator", "random.Random", or numpy's name ("RandomState/MT19937",
    "Generator/PCG64"). `state`: what the library's own setter takes back. `device` is set for torch.
    """

    name: str
    kind: str
    state: Any
    device: str | None = None


@dataclass(frozen=True, slots=True)
class _Source:
    name: str
    kind: str
    read: Callable[[], Any]
    device: str | None = None
    always: bool = False


def _module(name: str) -> Any:
    # a module that is still being imported by another thread has no attributes yet
    module = sys.modules.get(name)
    spec = getattr(module, "__spec__", None)
    return None if module is None or getattr(spec, "_initializing", False) else module


def _same(first: Any, second: Any) -> bool:
    """Whether two states are equal; knows tensors, arrays, dicts and tuples of them."""
    if first is second:
        return True
    if type(first) is not type(second):
        return False
    if isinstance(first, dict):
        mapping, other = cast("dict[str, Any]", first), cast("dict[str, Any]", second)
        return mapping.keys() == other.keys() and all(_same(mapping[key], other[key]) for key in mapping)
    if hasattr(first, "tobytes"):
        return first.tobytes() == second.tobytes()
    if hasattr(first, "equal"):
        return bool(first.equal(second))
    return bool(first == second)


def _numpy_state(generator: Any) -> Any:
    return generator.get_state(legacy=False)


@functools.lru_cache(maxsize=16)
def _known_sources(torch: bool, cuda: bool, numpy: bool) -> tuple[_Source, ...]:
    found: list[_Source] = []
    if torch:
        module = sys.modules["torch"]
        found.append(_Source(TORCH_CPU, "torch.Generator", module.default_generator.get_state, "cpu"))
        for index, generator in enumerate(module.cuda.default_generators if cuda else ()):
            found.append(_Source(f"{TORCH_CUDA}:{index}", "torch.Generator", generator.get_state, f"cuda:{index}"))
    if numpy:
        read = functools.partial(sys.modules["numpy"].random.get_state, legacy=False)
        found.append(_Source(NUMPY, "RandomState/MT19937", read))
    found.append(_Source(PYTHON, "random.Random", random.getstate))
    return tuple(found)


def _global_sources() -> tuple[_Source, ...]:
    torch = _module("torch")
    cuda = torch is not None and torch.cuda.is_initialized()
    return _known_sources(torch is not None, cuda, _module("numpy") is not None)


def _numpy_kind(generator: Any) -> str:
    bits = getattr(generator, "bit_generator", None) or getattr(generator, "_bit_generator", None)
    return f"{type(generator).__name__}/{type(bits).__name__}"


def _argument_source(path: str, value: Any) -> _Source | None:
    name = f"{ARGUMENT}:{path}"
    if isinstance(value, random.Random):
        # SystemRandom has no state to read: its numbers cannot be recorded
        return (
            None
            if isinstance(value, random.SystemRandom)
            else _Source(name, "random.Random", value.getstate, None, True)
        )
    torch = _module("torch")
    if torch is not None and isinstance(value, torch.Generator):
        return _Source(name, "torch.Generator", value.get_state, str(value.device), True)
    numpy = _module("numpy")
    if numpy is not None:
        if isinstance(value, numpy.random.RandomState):
            return _Source(name, _numpy_kind(value), lambda: _numpy_state(value), None, True)
        if isinstance(value, numpy.random.Generator):
            bits = value.bit_generator
            return _Source(name, _numpy_kind(value), lambda: bits.state, None, True)
    return None


def _arguments(arguments: Mapping[str, Any]) -> Iterable[_Source]:
    for name, value in arguments.items():
        source = _argument_source(name, value)
        if source is not None:
            yield source
        elif isinstance(value, (list, tuple)):
            for index, item in enumerate(cast("list[Any]", value)):
                source = _argument_source(f"{name}[{index}]", item)
                if source is not None:
                    yield source
        elif isinstance(value, dict):
            for key, item in cast("dict[Any, Any]", value).items():
                source = _argument_source(f"{name}.{key}", item)
                if source is not None:
                    yield source


class Snapshot:
    """All streams a call could draw from, as they stood before it."""

    __slots__ = ("_before", "_keep_all")

    def __init__(self, arguments: Mapping[str, Any] | None = None, *, streams: str = "moved") -> None:
        """Read the global streams and the generators among `arguments` (name -> value, also inside lists and dicts)."""
        self._keep_all = streams == "all"
        self._before = [(s, s.read()) for s in _global_sources()]
        if arguments:
            self._before += [(s, s.read()) for s in _arguments(arguments)]

    def used(self) -> list[Stream]:
        """The states before the call of the streams that moved since, and of all generators given as arguments."""
        return [
            Stream(source.name, source.kind, state, source.device)
            for source, state in self._before
            if source.always or self._keep_all or not _same(state, source.read())
        ]


# --- what stands in a record ---


def encode_state(stream: Stream) -> tuple[str, bytes]:
    """(algorithm, state bytes) as recorded in `rng.sources`.

    torch.Generator: the bytes of `get_state()`. numpy: JCS of the bit generator's state dictionary, arrays as
    {"array": [dtype, base64 of little-endian bytes]}. random.Random: JCS of {"gauss", "version", "words" (same form)}.
    """
    if stream.kind == "torch.Generator":
        return "torch." + str(stream.device).partition(":")[0], bytes(stream.state.numpy().tobytes())
    if stream.kind == "random.Random":
        version, words, gauss = stream.state
        packed = {"array": ["uint32", b64(struct.pack(f"<{len(words)}I", *words))]}
        value = {"gauss": jcs.wrap_value(gauss), "version": version, "words": packed}
        return "python.random", jcs.encode(value)
    return f"numpy.{stream.kind}", jcs.encode(jcs.wrap_value(stream.state, _numpy_value))


def _numpy_value(value: object) -> jcs.Json:
    if hasattr(value, "item") and not getattr(value, "shape", ()):
        return jcs.wrap_value(value.item())  # type: ignore[attr-defined]
    if hasattr(value, "tobytes"):
        array = cast("Any", value)
        ordered = array.astype(array.dtype.newbyteorder("<"))
        return {"array": [array.dtype.name, b64(ordered.tobytes())]}
    raise UsageError(f"a random number generator's state holds a {type(value).__name__}")


def restore(algorithm: str, state: bytes, target: Any = None) -> Any:
    """Put a recorded state back: into `target`, or into the global stream the algorithm names, or (numpy's Generator) a
    new generator. Returns what was set. `EvidenceError` if algorithm and state do not fit.

    The inverse of `encode_state`, for replays. torch must be loaded for torch's states.
    """
    try:
        if algorithm.startswith("torch."):
            return _restore_torch(algorithm, state, target)
        value = jcs.decode(state, limit=1 << 20, what="generator state")
        if algorithm == "python.random":
            items = cast("dict[str, Any]", value)
            raw = unb64(items["words"]["array"][1])
            words = struct.unpack(f"<{len(raw) // 4}I", raw)
            chosen = random if target is None else target
            chosen.setstate((items["version"], words, jcs.unwrap_value(items["gauss"])))
            return chosen
        return _restore_numpy(algorithm, _unpack(value), target)
    except (KeyError, IndexError, TypeError, ValueError, AttributeError, RuntimeError, struct.error) as error:
        raise EvidenceError(f"rng: the state is none of {algorithm}: {error}") from error


def _restore_torch(algorithm: str, state: bytes, target: Any) -> Any:
    torch = sys.modules.get("torch")
    if torch is None:
        raise SetupError("this record's generator is torch's: import torch before restoring it")
    tensor = torch.frombuffer(bytearray(state), dtype=torch.uint8)
    if target is None:
        target = torch.default_generator if algorithm == "torch.cpu" else torch.cuda.default_generators[0]
    target.set_state(tensor)
    return target


def _restore_numpy(algorithm: str, state: Any, target: Any) -> Any:
    import numpy as np

    _, kind, name = algorithm.replace("/", ".").split(".")
    if kind == "RandomState":
        chosen = np.random if target is None else target
        chosen.set_state(state)
        return chosen
    if target is None:
        known = {"PCG64", "PCG64DXSM", "MT19937", "Philox", "SFC64"}
        if name not in known:
            raise EvidenceError(f"rng: numpy's {name[:40]!r} is not known here")
        target = np.random.Generator(getattr(np.random, name)())
    target.bit_generator.state = state
    return target


def _unpack(value: Any) -> Any:
    if isinstance(value, dict):
        items = cast("dict[str, Any]", value)
        if set(items) == {"array"}:
            import numpy as np

            dtype, data = items["array"]
            return np.frombuffer(unb64(data), dtype=np.dtype(dtype).newbyteorder("<")).astype(dtype)
        if set(items) <= {"int", "f64"} and items:
            return jcs.unwrap_value(items)
        return {key: _unpack(item) for key, item in items.items()}
    return value
