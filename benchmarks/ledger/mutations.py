"""Structured mutations of bytes: what a careless program, a broken disk or somebody hostile makes of an artefact.

`Mutator(seed, corpus).input(i)` is the i-th input, the same for the same corpus. About half of the edits are made where
the structure is (lines, numbers, base64, values of JSON documents re-encoded canonically, payloads inside payloads), so
that inputs get past the first check; the other half anywhere.
"""

from __future__ import annotations

import base64
import json
import random
import re
from collections.abc import Callable, Sequence
from typing import Any, cast

from plausible.schemas import jcs
from plausible.schemas.errors import PlausibleError

BOMB = 4 << 20
"""The largest input is about this long, above the limit of every text format."""

_LARGE = 1 << 18

_NUMBER = re.compile(rb"-?[0-9]+")
_BASE64 = re.compile(rb"[A-Za-z0-9+/]{16,}={0,2}")
_NUMBERS = (
    b"0", b"00", b"-0", b"-1", b"+1", b"1", b" 1", b"1 ", b"1_0", b"1.0", b"1e3", b"0x10", b"255", b"256", b"257",
    b"65535", b"65536", b"2147483648", b"4294967296", b"9007199254740991", b"9007199254740992", b"9223372036854775807",
    b"9223372036854775808", b"18446744073709551615", b"18446744073709551616", b"9" * 400, b"9" * 5000, b"", b"NaN",
    b"Infinity", "\u0663".encode(), "\u00b2".encode(), "\uff11".encode(), b"true", b"null",
)  # fmt: skip
_TOKENS = (
    b"\0", b"\n", b"\n\n", b"\r\n", b"\r", b"\t", b" ", b"  ", b"#", b"=", b"==", b"+", b"/", b",", b":", b'"', b"\\",
    b"{", b"}", b"[", b"]", b"..", b"../", b"sha256:", b"none", b"\x7f", b"\x80", b"\xc0\x80", b"\xed\xa0\x80", b"\xff",
    b"\xfe\xff",
    b"\xef\xbb\xbf", "\u2014".encode(), "\u2014 ".encode(), "\u2028".encode(), "\u0085".encode(), "\u202e".encode(),
    "\U0001f600".encode(), b"\\ud800", b"\\u0000", b"log ", b"witness ", b"group ", b"quorum ", b"author ", b"extra ",
    b"index ", b"AAAA", b"QR==", b"Zm9v",
)  # fmt: skip


class Mutator:
    """Inputs made from a corpus; `names` of the same seed give the same inputs."""

    def __init__(self, seed: str, corpus: Sequence[bytes]) -> None:
        self._seed = seed
        self._corpus = list(corpus)

    def input(self, number: int) -> bytes:
        """The input of this number; 0 to len(corpus) - 1 are the corpus itself."""
        if number < len(self._corpus):
            return self._corpus[number]
        rng = random.Random(f"{self._seed}/{number}")
        data = rng.choice(self._corpus)
        for _ in range(rng.choice((1, 1, 1, 2, 2, 3, 5))):
            data = rng.choices(_KINDS, _WEIGHTS)[0](rng, data, self._corpus)
            if len(data) > _LARGE:
                break  # what is measured is the parser's memory, not that of editing
        return data[: 2 * BOMB]


def _place(rng: random.Random, data: bytes) -> int:
    return rng.randrange(len(data) + 1)


def _range(rng: random.Random, data: bytes) -> tuple[int, int]:
    first = _place(rng, data)
    return first, min(len(data), first + rng.choice((1, 1, 2, 4, 16, 32, 64, 256, 1024)))


def _flip(rng: random.Random, data: bytes, _corpus: Sequence[bytes]) -> bytes:
    changed = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 8)) if data else 0):
        changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
    return bytes(changed)


def _set(rng: random.Random, data: bytes, _corpus: Sequence[bytes]) -> bytes:
    first, end = _range(rng, data)
    return data[:first] + rng.randbytes(end - first) + data[end:]


def _insert(rng: random.Random, data: bytes, _corpus: Sequence[bytes]) -> bytes:
    place = _place(rng, data)
    return data[:place] + rng.choice(_TOKENS) * rng.choice((1, 1, 1, 2, 40)) + data[place:]


def _delete(rng: random.Random, data: bytes, _corpus: Sequence[bytes]) -> bytes:
    first, end = _range(rng, data)
    return data[:first] + data[end:]


def _truncate(rng: random.Random, data: bytes, _corpus: Sequence[bytes]) -> bytes:
    return data[: _place(rng, data)]


def _duplicate(rng: random.Random, data: bytes, _corpus: Sequence[bytes]) -> bytes:
    first, end = _range(rng, data)
    return data[:end] + data[first:end] * rng.choice((1, 1, 2, 50)) + data[end:]


def _splice(rng: random.Random, data: bytes, corpus: Sequence[bytes]) -> bytes:
    other = rng.choice(corpus)
    return data[: _place(rng, data)] + other[_place(rng, other) :]


def _lines(rng: random.Random, data: bytes, corpus: Sequence[bytes]) -> bytes:
    lines = data.split(b"\n")
    place = rng.randrange(len(lines))
    kind = rng.randrange(6)
    if kind == 0:
        del lines[place]
    elif kind == 1:
        lines.insert(place, lines[rng.randrange(len(lines))])
    elif kind == 2:
        other = rng.randrange(len(lines))
        lines[place], lines[other] = lines[other], lines[place]
    elif kind == 3:
        lines.insert(place, rng.choice(rng.choice(corpus).split(b"\n")))
    elif kind == 4:
        words = lines[place].split(b" ")
        rng.shuffle(words)
        lines[place] = b" ".join(words)
    else:
        lines[place] = rng.choice((b"", b" ", b"#", lines[place] + b" ", b" " + lines[place], lines[place].upper()))
    return b"\n".join(lines)


def _number(rng: random.Random, data: bytes, _corpus: Sequence[bytes]) -> bytes:
    found = list(_NUMBER.finditer(data[: 1 << 16]))
    if not found:
        return _insert(rng, data, _corpus)
    match = rng.choice(found)
    near = str(int(match[0][:30]) + rng.choice((-1, 1, 256, -256))).encode()
    return data[: match.start()] + rng.choice((near, rng.choice(_NUMBERS))) + data[match.end() :]


def _base64(rng: random.Random, data: bytes, corpus: Sequence[bytes]) -> bytes:
    """Change what a run of base64 holds, and write it as base64 again (or nearly)."""
    found = list(_BASE64.finditer(data[: 1 << 16]))
    if not found:
        return _flip(rng, data, corpus)
    match = rng.choice(found)
    text = match[0]
    try:
        inner = base64.b64decode(text + b"=" * (-len(text) % 4))
    except ValueError:
        inner = text
    kind = rng.choice((_flip, _set, _truncate, _insert, _duplicate, _json if inner.startswith(b"{") else _flip))
    changed = base64.b64encode(kind(rng, inner, corpus))
    if rng.random() < 0.1:
        changed = changed.rstrip(b"=")
    return data[: match.start()] + changed + data[match.end() :]


def _bomb(rng: random.Random, data: bytes, _corpus: Sequence[bytes]) -> bytes:
    """Far too long, far too deep, far too many."""
    length = rng.choice((1 << 12, 1 << 16, 1 << 20, BOMB))
    place = _place(rng, data)
    first, end = _range(rng, data)
    token = rng.choice((b"[", b'{"a":', b"A", b"9", b"\0", b"\n", b" ", b"a b\n", data[first:end] or b"x"))
    return data[:place] + (token * (length // len(token) + 1))[:length] + data[place:]


def _json(rng: random.Random, data: bytes, corpus: Sequence[bytes]) -> bytes:
    """Change one value of a JSON document and write it canonically again."""
    try:
        value: Any = json.loads(data)
    except (ValueError, RecursionError):
        return _lines(rng, data, corpus)
    changed = _change(rng, value, corpus)
    try:
        return jcs.encode(changed)
    except (PlausibleError, RecursionError):
        try:
            return json.dumps(changed, separators=(",", ":"), sort_keys=True).encode("utf-8", "surrogatepass")
        except (ValueError, RecursionError):
            return data


_VALUES: tuple[Any, ...] = (
    None, True, False, 0, 1, -1, 7.5, 2**31, 2**53, 2**53 - 1, 2**63, 2**64, -(2**53), 1e308, "", " ", "\0", "a" * 5000,
    "sha256:", "sha256:" + "0" * 64, "sha256:" + "F" * 64, "QR==", "2026-01-01T00:00:00.000000Z",
    "9999-99-99T99:99:99.999999Z",
    "2026-02-30T00:00:60.000000Z", [], {}, [[]], [{}], {"": {}}, {"int": "18446744073709551615"}, {"int": "1"},
    {"f64": "7ff0000000000000"}, {"f64": "x"}, {"int": 1}, ["a"] * 300, "\u0663", "\ud7ff\ue000", "\u202e",
)  # fmt: skip


def _change(rng: random.Random, value: Any, corpus: Sequence[bytes], depth: int = 0) -> Any:
    if isinstance(value, dict) and value and rng.random() < 0.9:
        table = dict(cast("dict[str, Any]", value))
        key = rng.choice(sorted(table))
        kind = rng.random()
        if kind < 0.08:
            del table[key]
        elif kind < 0.16:
            table[rng.choice(("x", "", key + " ", key.upper(), "format", "\u0000"))] = rng.choice(_VALUES)
        elif kind < 0.2:
            table[rng.choice(sorted(table))] = table[key]
        else:
            table[key] = _change(rng, table[key], corpus, depth + 1)
        return table
    if isinstance(value, list) and value and rng.random() < 0.9:
        items = list(cast("list[Any]", value))
        place = rng.randrange(len(items))
        kind = rng.random()
        if kind < 0.1:
            del items[place]
        elif kind < 0.2:
            items.insert(place, items[place])
        elif kind < 0.25:
            items *= rng.choice((2, 100))
        else:
            items[place] = _change(rng, items[place], corpus, depth + 1)
        return items
    if isinstance(value, str) and value and rng.random() < 0.5:
        raw = value.encode("utf-8", "replace")
        return rng.choice((_flip, _base64, _number, _truncate, _insert))(rng, raw, corpus).decode("utf-8", "replace")
    if isinstance(value, int) and rng.random() < 0.5:
        return value + rng.choice((-1, 1, 256, 2**32))
    if rng.random() < 0.02:
        for _ in range(rng.choice((10, 31, 32, 33, 200))):
            value = [value]
        return value
    return rng.choice(_VALUES)


_KINDS: tuple[Callable[[random.Random, bytes, Sequence[bytes]], bytes], ...] = (
    _flip, _set, _insert, _delete, _truncate, _duplicate, _splice, _lines, _number, _base64, _json, _bomb,
)  # fmt: skip
_WEIGHTS = (12, 6, 12, 6, 5, 6, 8, 14, 14, 10, 24, 0.4)
