"""One case of a protocol: asked, answered, judged against what the specification says."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal

from ...schemas.errors import PeerError

State = Literal["passed", "failed", "skipped"]


@dataclass(frozen=True, slots=True)
class Result:
    """What came of one case; `detail` says what was seen where it failed or was skipped."""

    name: str
    state: State
    detail: str = ""


class Failed(Exception):  # noqa: N818  a verdict on somebody else's server
    """The server answered otherwise than the specification says."""


class Skipped(Exception):  # noqa: N818
    """The case does not apply to this server."""


def run_cases(cases: Iterable[tuple[str, Callable[[], None]]], done: Callable[[Result], None]) -> list[Result]:
    """Run the cases in their order. A server that cannot be reached at all ends the run with a `PeerError`."""
    results: list[Result] = []
    for name, case in cases:
        try:
            case()
        except Failed as error:
            result = Result(name, "failed", str(error))
        except Skipped as error:
            result = Result(name, "skipped", str(error))
        except PeerError:
            if not results:
                raise
            result = Result(name, "failed", "the server did not answer")
        else:
            result = Result(name, "passed")
        results.append(result)
        done(result)
    return results
