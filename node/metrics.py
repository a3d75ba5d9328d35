"""Prometheus metrics of a service, on an address of their own: never beside what strangers may ask for.

    plausible_requests_total{method,route,status}, plausible_request_seconds{route}, plausible_requests_in_flight
    plausible_service_info{service,version}, process_* (CPU, memory, files)
    what the service itself says (`Gauge`), read anew at each scrape

Labels hold routes, statuses, origins of logs and names of witnesses: all of them of the operator's own choosing.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ..schemas.errors import PlausibleError, SetupError

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry
    from prometheus_client.core import Metric

_log = logging.getLogger("plausible.metrics")
_BUCKETS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0)


@dataclass(frozen=True, slots=True)
class Gauge:
    """A value at this moment: `plausible_` is put before the name."""

    name: str
    help: str
    value: float
    labels: dict[str, str] = field(default_factory=dict[str, str])


Gauges = Callable[[], Iterable[Gauge]]


class Metrics:
    """The registry of one service; a `Recorder` of its requests. Needs the `node` extra (`SetupError` names it)."""

    def __init__(self, service: str, version: str, gauges: Gauges = lambda: ()) -> None:
        try:
            from prometheus_client import CollectorRegistry, Counter, Histogram, ProcessCollector
            from prometheus_client import Gauge as Level
        except ImportError:
            raise SetupError("metrics need prometheus-client: pip install 'plausible-deniability[node]'") from None
        self.registry: CollectorRegistry = CollectorRegistry()
        labels = ["method", "route", "status"]
        self._count = Counter("plausible_requests", "Requests answered.", labels, registry=self.registry)
        self._seconds = Histogram(
            "plausible_request_seconds", "Time to answer.", ["route"], buckets=_BUCKETS, registry=self.registry
        )
        self._flight = Level("plausible_requests_in_flight", "Requests not answered yet.", registry=self.registry)
        info = Level("plausible_service_info", "Which service this is.", ["service", "version"], registry=self.registry)
        info.labels(service, version).set(1)
        ProcessCollector(registry=self.registry)
        self.registry.register(_Own(gauges))  # pyright: ignore[reportArgumentType]  (a collector by shape)

    def begin(self) -> None:
        """See `observing.Recorder`."""
        self._flight.inc()

    def end(self, method: str, route: str, status: int, seconds: float) -> None:
        """See `observing.Recorder`."""
        self._flight.dec()
        self._count.labels(method, route, str(status)).inc()
        self._seconds.labels(route).observe(seconds)

    @contextmanager
    def serve(self, host: str, port: int) -> Generator[int]:
        """Answer scrapes on an address of its own until the block ends; the port (0: the system's choice)."""
        from prometheus_client import start_http_server

        try:
            server, thread = start_http_server(port, host, self.registry)
        except OSError as error:
            raise SetupError(f"cannot serve metrics on {host} port {port}: {error.strerror or error}") from None
        try:
            yield int(server.server_address[1])
        finally:
            server.shutdown()
            server.server_close()
            thread.join()


class _Own:
    """Reads a service's gauges at each scrape. One that fails says so in a metric, and takes nothing else along."""

    def __init__(self, gauges: Gauges) -> None:
        self._gauges = gauges

    def describe(self) -> list[Metric]:
        return []

    def collect(self) -> Iterator[Metric]:
        from prometheus_client.core import GaugeMetricFamily

        made: dict[str, GaugeMetricFamily] = {}
        failed = 0.0
        try:
            for gauge in self._gauges():
                name = f"plausible_{gauge.name}"
                family = made.get(name)
                if family is None:
                    family = made[name] = GaugeMetricFamily(name, gauge.help, labels=list(gauge.labels))
                family.add_metric(list(gauge.labels.values()), gauge.value)
        except PlausibleError as error:
            failed = 1.0
            _log.warning("metrics could not be read: %s", error)
        yield from made.values()
        yield GaugeMetricFamily("plausible_metrics_failed", "1 if the service could not be asked.", value=failed)


def parse_address(text: str) -> tuple[str, int]:
    """HOST:PORT, [IPV6]:PORT or PORT (on the loopback address); `SetupError` otherwise."""
    host, _, port = text.rpartition(":")
    host = host.removeprefix("[").removesuffix("]") or "127.0.0.1"
    if not (port.isascii() and port.isdigit() and int(port) < 65536):
        raise SetupError(f"{text!r} is no address for metrics: give HOST:PORT")
    return host, int(port)


__all__ = ["Gauge", "Gauges", "Metrics", "parse_address"]
