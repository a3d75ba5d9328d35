"""What all services share: where they listen, their metrics and their log lines, from flags, environment or a file.

PD_HOST, PD_PORT           where it listens (--host, --port)
PD_METRICS                 HOST:PORT of the Prometheus metrics; none if unset
PD_LOG_FORMAT, PD_LOG_LEVEL   text or json; debug, info (a line for each request), warning, error
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

from . import output, settings

if TYPE_CHECKING:
    from ..node.metrics import Gauges

HostOption = Annotated[
    str | None, typer.Option("--host", metavar="HOST", help="Address to listen on (default 127.0.0.1). [PD_HOST]")
]
PortOption = Annotated[
    int | None,
    typer.Option("--port", min=0, max=65535, help="Port to listen on; 0 lets the system choose. [PD_PORT]"),
]


def address(host: str | None, port: int | None, default_port: int) -> tuple[str, int]:
    """Where to listen: flags, else the settings, else the loopback address and the service's own port."""
    from ..schemas.errors import UsageError

    text = str(settings.get("port") or default_port) if port is None else str(port)
    if not (text.isascii() and text.isdigit() and int(text) < 65536):
        raise UsageError(f"{text!r} is no port")
    return settings.get("host", host), int(text)


@contextmanager
def operating(service: str, gauges: Gauges = lambda: ()) -> Generator[None]:
    """Log lines and metrics of a service, as the settings say, until the block ends."""
    from ..node.logs import logging_to
    from ..node.observing import recording
    from .main import version

    level, where = settings.get("log_level"), settings.get("metrics")
    with ExitStack() as stack:
        stack.enter_context(logging_to(service, kind=settings.get("log_format"), level=level))
        if where:
            from ..node.metrics import Metrics, parse_address

            metrics = Metrics(service, version(), gauges)
            host, port = parse_address(where)
            bound = stack.enter_context(metrics.serve(host, port))
            stack.enter_context(recording(metrics))
            output.note(f"metrics of this {service} on {host} port {bound}")
        elif level in ("debug", "info"):
            stack.enter_context(recording(_Unrecorded()))
        yield


class _Unrecorded:
    """Requests are logged, not counted."""

    def begin(self) -> None: ...

    def end(self, method: str, route: str, status: int, seconds: float) -> None: ...
