"""The stand-in for a module or another callable object: the same class by `isinstance`, the same attributes.

The stand-in is an instance of a class made from the object's own, and shares its `__dict__`: parameters, hooks and
settings are one and the same, so `.eval()`, `.to()`, `state_dict()` and every attribute act on both. Only `__call__`
differs. The object itself stays unrecorded, and so do copies: a copy has weights of its own.
"""

from __future__ import annotations

import copy
import functools
from typing import Any

from ...schemas.errors import UsageError
from .wrap import RecordedCall, function_proxy


def _plain(target: Any) -> Any:
    """What unpickling a stand-in gives: the object itself, unrecorded."""
    return target


def object_proxy(target: Any, facts: RecordedCall) -> Any:
    """A recorded stand-in for `target`; a plain function where its class allows no other instance."""
    kind = type(target)

    def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        return facts.call(functools.partial(kind.__call__, self), args, kwargs)

    def deep_copy(_self: Any, memo: dict[int, Any]) -> Any:
        return copy.deepcopy(target, memo)

    def reduce(_self: Any, _protocol: Any) -> Any:
        return _plain, (target,)

    members = {
        "__call__": call,
        "__deepcopy__": deep_copy,
        "__reduce_ex__": reduce,
        "__module__": kind.__module__,
        "__qualname__": kind.__qualname__,
        "__doc__": kind.__doc__,
    }
    if not callable(target):
        raise UsageError(f"a {kind.__name__} cannot be called, so it cannot be wrapped")
    try:
        stand_in = object.__new__(type(kind.__name__, (kind,), members))
        # one dictionary for both: what is set on either is set on both
        object.__setattr__(stand_in, "__dict__", target.__dict__)
    except (TypeError, AttributeError):
        return function_proxy(target, facts)
    return stand_in
