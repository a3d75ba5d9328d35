"""A JPEG file as what it is: quantised DCT coefficients, their tables, the sampling of its chroma and its colours.

Baseline files (SOF0, and SOF1 with eight bits) with one scan of all components, one grey or three of colour; restart
intervals too. Anything else is refused in one sentence: progressive, lossless and arithmetic files, twelve bits, four
components. No picture is decoded: what is compared is what the encoder wrote. Source: ITU-T T.81, annex B for the
markers; ITU-T T.871 (JFIF) and Adobe's APP14 for what the components mean.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from ....schemas.errors import EvidenceError
from .scan import HuffmanTable, ScanComponent, decode_scan

MAX_BYTES = 32 << 20
MAX_SAMPLES = 1 << 24
"""Samples of all components together: a coefficient takes about a microsecond to read."""
MAX_FACTOR = 4

ZIGZAG = np.array(
    sorted(range(64), key=lambda i: (i // 8 + i % 8, i // 8 if (i // 8 + i % 8) % 2 else i % 8)), dtype=np.int64
)
"""`ZIGZAG[k]` is the row-major place of the k-th coefficient in a file (T.81 figure A.6)."""

_NAMES = {
    0xC2: "progressive", 0xC3: "lossless", 0xC5: "hierarchical", 0xC6: "hierarchical", 0xC7: "hierarchical",
    0xC9: "arithmetic-coded", 0xCA: "arithmetic-coded", 0xCB: "arithmetic-coded", 0xCD: "arithmetic-coded",
    0xCE: "arithmetic-coded", 0xCF: "arithmetic-coded",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Component:
    """One component: `coefficients` int16 [rows, columns, 8, 8] of its own blocks (no padding to whole MCUs) and its
    `table` int [8, 8], both by vertical and horizontal frequency; one sample stands for `step_y` x `step_x` pixels."""

    coefficients: NDArray[np.int16] = field(repr=False)
    table: NDArray[np.int64] = field(repr=False)
    step_y: int
    step_x: int


@dataclass(frozen=True, slots=True)
class JpegFile:
    """What a baseline file says. `ycc`: the three components are Y, Cb and Cr; else they are red, green and blue."""

    height: int
    width: int
    components: tuple[Component, ...]
    ycc: bool

    @property
    def grey(self) -> bool:
        """One component."""
        return len(self.components) == 1

    @property
    def subsampling(self) -> str:
        """`grey`, `4:4:4`, `4:2:2`, `4:2:0`, or the chroma's step in pixels, such as `4x1`."""
        if self.grey:
            return "grey"
        steps = {(c.step_x, c.step_y) for c in self.components[1:]}
        if len(steps) != 1:
            return "mixed"
        across, down = steps.pop()
        names = {(1, 1): "4:4:4", (2, 1): "4:2:2", (2, 2): "4:2:0", (1, 2): "4:4:0", (4, 1): "4:1:1"}
        return names.get((across, down), f"{across}x{down}")

    @property
    def count(self) -> int:
        """Coefficients of all components."""
        return sum(c.coefficients.size for c in self.components)

    @property
    def informative(self) -> int:
        """Coefficients other than 0: an encoder writes 0 for a wide interval, so zeros say little."""
        return sum(int((c.coefficients != 0).sum()) for c in self.components)


@dataclass(slots=True)
class _Frame:
    height: int
    width: int
    components: list[tuple[int, int, int, int]]
    """(identifier, h, v, quantisation table)."""


@dataclass(slots=True)
class _State:
    tables: dict[int, NDArray[np.int64]] = field(default_factory=dict[int, NDArray[np.int64]])
    huffman: dict[tuple[int, int], HuffmanTable] = field(default_factory=dict[tuple[int, int], HuffmanTable])
    interval: int = 0
    frame: _Frame | None = None
    jfif: bool = False
    adobe: int | None = None


@dataclass(frozen=True, slots=True)
class _Headers:
    """What stands before the scan: its frame, each component's (DC, AC) table numbers, and where the scan begins."""

    state: _State
    frame: _Frame
    selected: list[tuple[int, int]]
    scan: int


def is_jpeg(data: bytes) -> bool:
    """Whether the bytes begin as a JPEG file does."""
    return data[:3] == b"\xff\xd8\xff"


def jpeg_size(data: bytes) -> tuple[int, int]:
    """(height, width) of a file, without reading its scan; `EvidenceError` as `read_jpeg`."""
    frame = _headers(data).frame
    return frame.height, frame.width


def read_jpeg(data: bytes) -> JpegFile:
    """The coefficients, tables and sampling of a baseline file; `EvidenceError`, one sentence, for any other bytes."""
    headers = _headers(data)
    state, frame = headers.state, headers.frame
    across, down = max(c[1] for c in frame.components), max(c[2] for c in frame.components)
    columns, rows = -(-frame.width // (8 * across)), -(-frame.height // (8 * down))
    parts: list[ScanComponent] = []
    for (_, h, v, number), (dc, ac) in zip(frame.components, headers.selected, strict=True):
        if number not in state.tables:
            raise EvidenceError("the JPEG file names a quantisation table that it does not hold")
        if (0, dc) not in state.huffman or (1, ac) not in state.huffman:
            raise EvidenceError("the JPEG file names a Huffman table that it does not hold")
        grid = np.zeros((rows * v, columns * h, 64), dtype=np.int16)
        parts.append(ScanComponent(h, v, state.huffman[0, dc], state.huffman[1, ac], grid))
    decode_scan(_intervals(data, headers.scan, state.interval), parts, state.interval)
    components: list[Component] = []
    for (_, h, v, number), part in zip(frame.components, parts, strict=True):
        high, wide = -(-frame.height * v // (8 * down)), -(-frame.width * h // (8 * across))
        natural = np.zeros_like(part.grid[:high, :wide])
        natural[..., ZIGZAG] = part.grid[:high, :wide]
        blocks = natural.reshape(high, wide, 8, 8)
        components.append(Component(blocks, state.tables[number], down // v, across // h))
    return JpegFile(frame.height, frame.width, tuple(components), _is_ycc(frame, state))


def _is_ycc(frame: _Frame, state: _State) -> bool:
    """JFIF means Y, Cb, Cr; else Adobe's marker says; else the identifiers "RGB" do."""
    if state.jfif or state.adobe is None:
        return state.jfif or [c[0] for c in frame.components] != [*b"RGB"]
    return state.adobe == 1


def _headers(data: bytes) -> _Headers:
    """The segments up to the first scan."""
    if len(data) > MAX_BYTES:
        raise EvidenceError(f"the JPEG file has more than {MAX_BYTES} bytes")
    if not is_jpeg(data):
        raise EvidenceError("not a JPEG file: it does not begin with the marker SOI")
    state = _State()
    place = 2
    while True:
        if place >= len(data) or data[place] != 0xFF:
            raise EvidenceError("the JPEG file's segments end before a scan begins")
        while data[place : place + 2] == b"\xff\xff":
            place += 1  # fill bytes
        body = data[place + 4 : place + 2 + int.from_bytes(data[place + 2 : place + 4], "big")]
        length = int.from_bytes(data[place + 2 : place + 4], "big")
        if place + 4 > len(data) or length < 2 or len(body) != length - 2:
            raise EvidenceError("the JPEG file ends inside a segment")
        marker = data[place + 1]
        place += 2 + length
        if marker == 0xDA:
            if state.frame is None:
                raise EvidenceError("the JPEG file has a scan before its frame header")
            return _Headers(state, state.frame, _selection(body, state.frame), place)
        _segment(marker, body, state)


def _segment(marker: int, body: bytes, state: _State) -> None:
    if marker in _NAMES:
        raise EvidenceError(f"the JPEG file is {_NAMES[marker]}; only baseline files can be compared by coefficients")
    if marker in (0xC0, 0xC1):
        if state.frame is not None:
            raise EvidenceError("the JPEG file has two frames")
        state.frame = _frame(body)
    elif marker == 0xDB:
        _quantisation(body, state)
    elif marker == 0xC4:
        _huffman(body, state)
    elif marker == 0xDD:
        if len(body) != 2:
            raise EvidenceError("the JPEG file's restart interval is not two bytes")
        state.interval = int.from_bytes(body, "big")
    elif marker == 0xE0 and body[:5] == b"JFIF\0":
        state.jfif = True
    elif marker == 0xEE and body[:5] == b"Adobe":
        if len(body) < 12 or body[11] > 2:
            raise EvidenceError("the JPEG file's Adobe segment is malformed")
        state.adobe = body[11]
    elif not (0xE0 <= marker <= 0xEF or marker == 0xFE):
        raise EvidenceError(f"the JPEG file has a marker 0x{marker:02x} where none may be")


def _frame(body: bytes) -> _Frame:
    if len(body) < 6 or len(body) != 6 + 3 * body[5]:
        raise EvidenceError("the JPEG file's frame header is malformed")
    if body[0] != 8:
        raise EvidenceError(f"the JPEG file has {body[0]} bits a sample; only eight can be compared by coefficients")
    height, width = int.from_bytes(body[1:3], "big"), int.from_bytes(body[3:5], "big")
    if body[5] not in (1, 3):
        raise EvidenceError(f"the JPEG file has {body[5]} components; only grey and three colours can be compared")
    components = [(body[i], body[i + 1] >> 4, body[i + 1] & 15, body[i + 2]) for i in range(6, len(body), 3)]
    if len(components) == 1:
        components = [(components[0][0], 1, 1, components[0][3])]  # one component is never interleaved
    across, down = max(c[1] for c in components), max(c[2] for c in components)
    for _, h, v, _ in components:
        if not (1 <= h <= MAX_FACTOR and 1 <= v <= MAX_FACTOR) or across % h or down % v:
            raise EvidenceError("the JPEG file's sampling factors are not supported")
    if len({c[0] for c in components}) != len(components) or sum(h * v for _, h, v, _ in components) > 10:
        raise EvidenceError("the JPEG file's frame header is malformed")
    if not height or not width:
        raise EvidenceError("the JPEG file does not say its height and width in its frame header")
    if height * width * len(components) > MAX_SAMPLES:
        raise EvidenceError(f"the JPEG file has more than {MAX_SAMPLES} samples")
    return _Frame(height, width, components)


def _quantisation(body: bytes, state: _State) -> None:
    while body:
        wide, number = body[0] >> 4, body[0] & 15
        size = 64 << wide
        if wide > 1 or number > 3 or len(body) < 1 + size:
            raise EvidenceError("the JPEG file's quantisation table is malformed")
        values = np.frombuffer(body[1 : 1 + size], dtype=">u2" if wide else np.uint8).astype(np.int64)
        if int(values.min()) < 1:
            raise EvidenceError("the JPEG file's quantisation table holds a zero")
        table = np.zeros(64, dtype=np.int64)
        table[ZIGZAG] = values
        state.tables[number] = table.reshape(8, 8)
        body = body[1 + size :]


def _huffman(body: bytes, state: _State) -> None:
    while body:
        kind, number = body[0] >> 4, body[0] & 15
        counts = body[1:17]
        if kind > 1 or number > 3 or len(counts) != 16 or len(body) < 17 + sum(counts) or not 0 < sum(counts) <= 256:
            raise EvidenceError("the JPEG file's Huffman table is malformed")
        state.huffman[kind, number] = HuffmanTable(counts, body[17 : 17 + sum(counts)])
        body = body[17 + sum(counts) :]


def _selection(body: bytes, frame: _Frame) -> list[tuple[int, int]]:
    """(DC, AC) table numbers of the frame's components."""
    if not body or len(body) != 4 + 2 * body[0] or body[-3:] != b"\x00\x3f\x00":
        raise EvidenceError("the JPEG file's scan header is malformed")
    if [*body[1:-3:2]] != [c[0] for c in frame.components]:
        raise EvidenceError("the JPEG file has no single scan of all its components; such files are not read")
    return [(tables >> 4, tables & 15) for tables in body[2:-3:2]]


def _intervals(data: bytes, place: int, interval: int) -> list[bytes]:
    """The scan's restart intervals with stuffing removed; the scan must be followed by EOI."""
    found: list[bytes] = []
    start = place
    while True:
        place = data.find(b"\xff", place)
        if place < 0 or place + 1 >= len(data):
            raise EvidenceError("the JPEG file ends inside its scan")
        marker = data[place + 1]
        if marker == 0x00:
            place += 2
            continue
        found.append(data[start:place].replace(b"\xff\x00", b"\xff"))
        if marker == 0xD9:
            return found
        if marker != 0xD0 + (len(found) - 1) % 8 or not interval:
            raise EvidenceError("the JPEG file's scan is followed by something other than its end")
        place += 2
        start = place
