"""The entropy-coded scan of a baseline JPEG file: Huffman codes to quantised coefficients, every bit accounted for.

What a tolerant decoder repairs is refused here: a code that is no code, a run past the end of a block, a value outside
the range of eight-bit samples, data that end early or go on after the last block. Source: ITU-T T.81 annexes C and F.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ....schemas.errors import EvidenceError

Block = list[int]
"""64 coefficients in zigzag order."""

MAX_DC_BITS = 11
MAX_AC_BITS = 10
DC_RANGE = 2048
"""Largest absolute quantised DC coefficient of eight-bit samples with room for overshoot."""
MARGIN = 4
"""Zero bytes read past the end of an interval before that counts as an early end."""


class HuffmanTable:
    """Sixteen bits looked up at once: the code's length (0 for no code) in `lengths`, its value in `symbols`."""

    def __init__(self, counts: Sequence[int], symbols: Sequence[int]) -> None:
        """`counts[i]` codes of length i + 1 and their symbols in order; `EvidenceError` if they overlap."""
        lengths = np.zeros(1 << 16, dtype=np.uint8)
        values = np.zeros(1 << 16, dtype=np.uint8)
        place, index = 0, 0
        for length, count in enumerate(counts, 1):
            width = 1 << (16 - length)
            end = place + count * width
            if end > 1 << 16:
                raise EvidenceError("the JPEG file's Huffman table has more codes than fit")
            lengths[place:end] = length
            values[place:end] = np.repeat(np.asarray(list(symbols[index : index + count]), dtype=np.uint8), width)
            place, index = end, index + count
        self.lengths: bytes = lengths.tobytes()
        self.symbols: bytes = values.tobytes()


@dataclass(frozen=True, slots=True)
class ScanComponent:
    """One component's share of a scan: blocks an MCU (h x v), tables, and the grid [rows, columns] that is filled."""

    h: int
    v: int
    dc: HuffmanTable
    ac: HuffmanTable
    grid: NDArray[np.int16]
    """int16 [rows, columns, 64], zigzag, padded to whole MCUs."""


class _Bits:
    """The bits of one restart interval, stuffing removed."""

    __slots__ = ("_data", "_held", "_place", "_size")

    def __init__(self, data: bytes) -> None:
        self._data = data + bytes(MARGIN)
        self._size = len(data)
        self._place = 0
        self._held = (0, 0)

    def block(self, dc: HuffmanTable, ac: HuffmanTable, previous: int) -> Block:
        """The next block; the DC difference is added to `previous`."""
        data, place = self._data, self._place
        bits, count = self._held
        out = [0] * 64
        position = 0
        while position < 64:
            while count < 32:
                # past the end come zeros, up to the margin: whether any was used is checked below
                bits = (bits << 8) | (data[place] if place < len(data) else 0)
                place += 1
                count += 8
            table = ac if position else dc
            window = (bits >> (count - 16)) & 0xFFFF
            length = table.lengths[window]
            if not length:
                raise EvidenceError("the JPEG file's scan holds bits that are no Huffman code")
            symbol = table.symbols[window]
            count -= length
            run, size = (symbol >> 4, symbol & 15) if position else (0, symbol)
            if size > (MAX_AC_BITS if position else MAX_DC_BITS):
                raise EvidenceError("the JPEG file's scan holds a coefficient too large for eight-bit samples")
            if position and not size:
                if run == 15:
                    position += 16
                    if position > 63:
                        raise EvidenceError("the JPEG file's scan holds a run past the end of a block")
                    bits &= (1 << count) - 1
                    continue
                if run:
                    raise EvidenceError("the JPEG file's scan holds a symbol that a baseline file has not")
                break  # end of block
            position += run
            if position > 63:
                raise EvidenceError("the JPEG file's scan holds a run past the end of a block")
            value = 0
            if size:
                count -= size
                value = (bits >> count) & ((1 << size) - 1)
                if value < 1 << (size - 1):
                    value -= (1 << size) - 1
            bits &= (1 << count) - 1
            if not position:
                value += previous
                if not -DC_RANGE <= value <= DC_RANGE:
                    raise EvidenceError("the JPEG file's scan holds a mean outside the range of eight-bit samples")
            out[position] = value
            position += 1
        self._place, self._held = place, (bits & ((1 << count) - 1), count)
        if 8 * place - count > 8 * self._size:
            raise EvidenceError("the JPEG file's scan ends before its last block")
        return out

    def finish(self) -> None:
        """Less than a byte may be left."""
        if 8 * self._size - (8 * self._place - self._held[1]) >= 8:
            raise EvidenceError("the JPEG file's scan goes on after its last block")


def decode_scan(intervals: Sequence[bytes], components: Sequence[ScanComponent], interval: int) -> None:
    """Fill every component's grid; `interval` MCUs lie between restarts, 0 for none. `EvidenceError` for any fault."""
    first = components[0]
    across = first.grid.shape[1] // first.h
    mcus = across * (first.grid.shape[0] // first.v)
    each = interval or mcus
    if len(intervals) != -(-mcus // each):
        raise EvidenceError("the JPEG file's restart markers do not fit its size")
    for number, data in enumerate(intervals):
        bits = _Bits(data)
        previous = [0] * len(components)
        for mcu in range(number * each, min((number + 1) * each, mcus)):
            row, column = divmod(mcu, across)
            for index, component in enumerate(components):
                for y in range(row * component.v, (row + 1) * component.v):
                    for x in range(column * component.h, (column + 1) * component.h):
                        block = bits.block(component.dc, component.ac, previous[index])
                        previous[index] = block[0]
                        component.grid[y, x] = block
        bits.finish()
