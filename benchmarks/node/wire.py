"""A client that sends whatever bytes it is told to and tells apart how a server may end it: for fuzzing servers.

An HTTP library would refuse to send most of what is sent here, and is slower than the servers.
"""

from __future__ import annotations

import socket
from dataclasses import dataclass
from types import TracebackType

HANG_SECONDS = 30.0
"""How long one answer may take before the server counts as hung."""
_HEAD = 64 << 10


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back; status 0: the connection ended without a whole answer."""

    status: int
    kind: str = ""
    body: bytes = b""
    retry_after: bool = False


class Connection:
    """One kept connection to 127.0.0.1:`port`; opened when it is needed. Not for several threads."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._socket: socket.socket | None = None

    def __enter__(self) -> Connection:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """End the connection."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def ask(self, request: bytes, *, ends: bool = False) -> Answer:
        """The answer to these bytes; `ends`: nothing comes after them. `TimeoutError` if the server hangs."""
        kept = self._socket is not None
        answer = self._once(request, ends)
        if answer.status == 0 and kept:  # a kept connection may have been closed while nothing was asked
            answer = self._once(request, ends)
        return answer

    def _once(self, request: bytes, ends: bool) -> Answer:
        if self._socket is None:
            self._socket = socket.create_connection(("127.0.0.1", self._port), timeout=HANG_SECONDS)
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        open_socket = self._socket
        try:
            try:
                open_socket.sendall(request)
                if ends:
                    open_socket.shutdown(socket.SHUT_WR)
            except (ConnectionError, OSError) as error:
                if isinstance(error, TimeoutError):
                    raise
            answer, keep = _read(open_socket)
        except ConnectionError:
            answer, keep = Answer(0), False
        except TimeoutError:
            self.close()
            raise
        if not keep or ends:
            self.close()
        return answer


def _read(open_socket: socket.socket) -> tuple[Answer, bool]:
    """One answer, and whether the connection goes on."""
    return _answer(open_socket, b"")


def _answer(open_socket: socket.socket, data: bytes) -> tuple[Answer, bool]:
    while (end := data.find(b"\r\n\r\n")) < 0:
        part = open_socket.recv(65536)
        if not part or len(data) > _HEAD:
            return Answer(0), False
        data += part
    lines = data[:end].split(b"\r\n")
    headers = {name.strip().lower(): value.strip() for name, _, value in (line.partition(b":") for line in lines[1:])}
    status = int(lines[0].split(b" ")[1])
    body = data[end + 4 :]
    length = headers.get(b"content-length", b"")
    if status < 200:  # go on
        return _answer(open_socket, body)
    if length:
        parts, size = [body], len(body)
        while size < int(length):
            part = open_socket.recv(65536)
            if not part:
                return Answer(0), False
            parts.append(part)
            size += len(part)
        body = b"".join(parts)
    else:  # it ends with the connection
        while len(body) <= _HEAD and (part := open_socket.recv(65536)):
            body += part
    keep = bool(length) and headers.get(b"connection", b"").lower() != b"close"
    kind = headers.get(b"content-type", b"").partition(b";")[0].decode("latin-1")
    return Answer(status, kind, body, b"retry-after" in headers), keep


__all__ = ["HANG_SECONDS", "Answer", "Connection"]
