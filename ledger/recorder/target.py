"""What is wrapped: its parameters, taken apart once, its name, and the module whose weights it runs."""

from __future__ import annotations

import functools
import inspect
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from types import BuiltinFunctionType, FunctionType, MethodType
from typing import Any, cast


@dataclass(frozen=True, slots=True)
class Parameters:
    """A signature, taken apart once."""

    signature: inspect.Signature
    names: tuple[str, ...]
    """Of the parameters that can be given by position, in order."""
    defaults: tuple[Any, ...]
    required: int
    """As many of them have to be given."""
    plain: bool
    """Whether there are no others."""

    @classmethod
    def of(cls, signature: inspect.Signature) -> Parameters:
        positional = [
            parameter
            for parameter in signature.parameters.values()
            if parameter.kind in (parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD)
        ]
        return cls(
            signature,
            tuple(parameter.name for parameter in positional),
            tuple(parameter.default for parameter in positional),
            sum(parameter.default is inspect.Parameter.empty for parameter in positional),
            len(positional) == len(signature.parameters),
        )

    def bind(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
        """Arguments by name, after defaults; `TypeError` if they do not fit."""
        count = len(args)
        if self.plain and not kwargs and self.required <= count <= len(self.names):
            # the usual call in few steps: binding properly costs the caller ten times this
            return dict(zip(self.names, (*args, *self.defaults[count:]), strict=True))
        bound = self.signature.bind(*args, **kwargs)
        bound.apply_defaults()
        flat: dict[str, Any] = {}
        for name, value in bound.arguments.items():
            kind = self.signature.parameters[name].kind
            if kind is inspect.Parameter.VAR_KEYWORD:
                flat.update(cast("dict[str, Any]", value))
            elif kind is inspect.Parameter.VAR_POSITIONAL:
                flat.update({f"{name}[{number}]": item for number, item in enumerate(value)})
            else:
                flat[name] = value
        return flat


def module_of(target: Any) -> Any:
    torch = sys.modules.get("torch")
    return target if torch is not None and isinstance(target, torch.nn.Module) else None


def guarded_by(module: Any, modules: Sequence[Any]) -> list[Any]:
    return ([] if module is None else [module]) + [item for item in modules if item is not module]


def is_callable_object(target: Any) -> bool:
    """An instance with attributes worth keeping, a pipeline for example; not a function or what wraps one."""
    plain = (FunctionType, MethodType, BuiltinFunctionType, functools.partial, type)
    return not isinstance(target, plain) and hasattr(target, "__dict__") and not hasattr(target, "__wrapped__")


def name_of(target: Any) -> str:
    named = target if hasattr(target, "__qualname__") else type(target)
    return f"{named.__module__}.{named.__qualname__}"[:1000]


def signature_of(target: Any) -> inspect.Signature | None:
    module = module_of(target)
    try:
        return inspect.signature(target if module is None else module.forward)
    except (TypeError, ValueError):
        return None
