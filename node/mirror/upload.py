"""An add-entries body on its way in: unpacked if it is gzip, in bounded time and memory, package by package.

Kept in memory is one package (17 MiB at most). A request that cannot be about anything is answered before its entries
have arrived; one that breaks off, or ends in the middle of a package, keeps what was verified.
"""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import AsyncIterator, Callable, Iterator
from typing import TYPE_CHECKING

from ...ledger.notes.mirror_body import MAX_PACKAGES, UploadReader
from ...schemas.errors import EvidenceError
from .entries import Answer, Upload, begin
from .mirror import Mirror

if TYPE_CHECKING:
    from starlette.requests import Request

IDLE_SECONDS = 20.0
"""How long a client may take for the next `PACE_BYTES`, or for the rest."""
PACE_BYTES = 1 << 16
UPLOAD_SECONDS = 300.0
"""How long a whole request may take."""
_PIECE = 1 << 18


async def receive(
    mirror: Mirror, request: Request, *, idle: float = IDLE_SECONDS, seconds: float = UPLOAD_SECONDS
) -> Answer:
    """Answer one add-entries request. At most 32 packages are read; a client sends the rest in the next request."""
    reader = UploadReader()
    upload: Upload | None = None
    try:
        async with asyncio.timeout(seconds):
            async for part in _parts(request, idle):
                reader.feed(part)
                head = reader.read_head()
                if head is None:
                    continue
                if upload is None:
                    begun = await asyncio.to_thread(begin, mirror, head)
                    if isinstance(begun, Answer):
                        return begun
                    upload = begun
                while upload.packages < MAX_PACKAGES and (package := reader.read_package()) is not None:
                    try:
                        await asyncio.to_thread(upload.take, package)
                    except EvidenceError as error:
                        return Answer(422, f"{error}\n".encode())
                if reader.complete or upload.packages == MAX_PACKAGES:
                    break
    except TimeoutError:
        pass  # what came so far counts
    except EvidenceError as error:
        if upload is None or not upload.packages:
            return Answer(400, f"{error}\n".encode())
    if upload is None:
        return Answer(400, b"the request ends before its entries\n")
    return await asyncio.to_thread(upload.finish)


async def _parts(request: Request, idle: float) -> AsyncIterator[bytes]:
    """The body in pieces, unpacked; it ends where the client ends, goes away or drips. `EvidenceError`: no gzip."""
    from starlette.requests import ClientDisconnect

    packed = request.headers.get("content-encoding", "identity").strip().lower() == "gzip"
    unpack = _unpacker() if packed else _plain
    stream, clock = request.stream(), asyncio.get_running_loop().time
    # a byte now and then does not hold one of the few places: what counts is the time waited for each PACE_BYTES
    left, size = idle, 0
    while True:
        began = clock()
        try:
            part = await asyncio.wait_for(anext(stream), left)
        except (StopAsyncIteration, ClientDisconnect, TimeoutError):
            return
        left, size = left - (clock() - began), size + len(part)
        if size >= PACE_BYTES:
            left, size = idle, 0
        for piece in unpack(part):
            yield piece


def _plain(part: bytes) -> Iterator[bytes]:
    yield part


def _unpacker() -> Callable[[bytes], Iterator[bytes]]:
    """Unpacks gzip piece by piece: a small body cannot become a large one in memory."""
    inflate = zlib.decompressobj(wbits=31)

    def unpack(part: bytes) -> Iterator[bytes]:
        try:
            while part:
                yield inflate.decompress(part, _PIECE)
                part = inflate.unconsumed_tail
        except zlib.error as error:
            raise EvidenceError(f"the body is not gzip: {error}") from None

    return unpack


__all__ = ["IDLE_SECONDS", "UPLOAD_SECONDS", "receive"]
