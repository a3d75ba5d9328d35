"""Canonical JSON: one spelling per document, exact numbers, and one error type for everything else."""

from __future__ import annotations

import json
import math
import struct
from typing import Any

import pytest
import rfc8785
from hypothesis import given
from hypothesis import strategies as st
from plausible.schemas import jcs
from plausible.schemas.errors import EvidenceError, UsageError

SAFE = st.integers(-jcs.MAX_SAFE_INTEGER, jcs.MAX_SAFE_INTEGER)
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
FLOATS = st.floats(allow_nan=False, allow_infinity=False).filter(lambda x: not (x.is_integer() and abs(x) > 2**53 - 1))
VALUES = st.recursive(
    st.none() | st.booleans() | SAFE | FLOATS | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=20,
)


@given(VALUES)
def test_what_is_encoded_is_accepted_and_means_the_same(value: Any) -> None:
    data = jcs.encode(value)
    assert jcs.decode(data) == value
    assert jcs.encode(jcs.decode(data)) == data


ODD = st.characters(exclude_categories=["Cs"]) | st.sampled_from(
    [*map(chr, range(0x21)), '"', "\\", "/", "\x7f", "\u2028"]
)
ANY_TEXT = st.text(ODD, max_size=8)
ANY_VALUES = st.recursive(
    st.none() | st.booleans() | SAFE | FLOATS | ANY_TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(ANY_TEXT, inner, max_size=4),
    max_leaves=20,
)


@given(ANY_VALUES)
def test_the_fast_path_writes_what_rfc8785_writes(value: Any) -> None:
    assert jcs.encode(value) == rfc8785.dumps(value)


@pytest.mark.parametrize("value", ["\ud800", {"\ud800": 1}, ["a\udfff"], 2**53, {1: 2}, {"a": object()}, b"", {b"": 1}])
def test_the_fast_path_refuses_what_has_no_jcs(value: Any) -> None:
    with pytest.raises(UsageError):
        jcs.encode(value)


def test_the_serialisation_example_of_rfc_8785() -> None:
    value = {
        "numbers": [333333333.33333329, 4.50, 2e-3, 0.000000000000000000000000001],
        "string": '€$\u000f\nA\'B"\\\\"/',
        "literals": [None, True, False],
    }
    expected = (
        '{"literals":[null,true,false],"numbers":[333333333.3333333,4.5,0.002,1e-27],'
        '"string":"€$\\u000f\\nA\'B\\"\\\\\\\\\\"/"}'
    ).encode()
    assert jcs.encode(value) == expected
    assert jcs.decode(expected) == value


def test_keys_are_sorted_by_utf16() -> None:
    keys = ["€", "\r", "\ufb33", "1", "😀", "\u0080", "ö"]
    ordered = list(json.loads(jcs.encode(dict.fromkeys(keys, 0))))
    assert ordered == ["\r", "1", "\u0080", "ö", "€", "😀", "\ufb33"]


@pytest.mark.parametrize(
    "data",
    [
        b'{"a":1,"a":1}',
        b'{"a":1,"a":2}',
        b'{"a": 1}',
        b'{"a":1}\n',
        b'\xef\xbb\xbf{"a":1}',
        b'{"b":1,"a":2}',
        b"1.0",
        b"1e3",
        b"-0",
        b"01",
        b"9007199254740992",
        b"1e400",
        b"1" * 5000,
        b"1e22222222222",
        b"NaN",
        b"Infinity",
        b'"\\u0041"',
        b'"\\/"',
        b'"\\ud800"',
        b'"\xed\xa0\x80"',
        b'"\xff"',
        b'{"\\ud800":1}',
        b'"unterminated',
        b"",
        b"{",
        b"[" * 100_000,
        b'{"a":' * 100_000,
        b"[" * 33 + b"]" * 33,
        b"null null",
        b"{1:2}",
        b"\x00",
    ],
)
def test_everything_that_is_not_its_own_jcs_is_refused(data: bytes) -> None:
    with pytest.raises(EvidenceError):
        jcs.decode(data)


def test_depth_and_size_limits_are_exact() -> None:
    deepest = b"[" * 32 + b"]" * 32
    assert jcs.encode(jcs.decode(deepest)) == deepest
    assert jcs.decode(b'"' + b"[" * 100 + b'"') == "[" * 100
    assert jcs.decode(b'"123"', limit=5) == "123"
    with pytest.raises(EvidenceError, match="more than the 4"):
        jcs.decode(b'"123"', limit=4)


@given(st.binary(max_size=60) | st.text(max_size=40).map(lambda text: text.encode("utf-8", "surrogatepass")))
def test_arbitrary_bytes_raise_nothing_else(data: bytes) -> None:
    try:
        value = jcs.decode(data)
    except EvidenceError:
        return
    assert jcs.encode(value) == data


@given(VALUES, st.integers(0, 200), st.integers(0, 255))
def test_a_changed_byte_is_refused_or_another_document(value: Any, position: int, byte: int) -> None:
    data = bytearray(jcs.encode(value))
    data[position % len(data)] = byte
    try:
        other = jcs.decode(bytes(data))
    except EvidenceError:
        return
    assert jcs.encode(other) == bytes(data)


def test_values_without_canonical_json_are_the_writers_mistake() -> None:
    cycle: list[Any] = []
    cycle.append(cycle)
    for value in (
        math.nan,
        math.inf,
        2**53,
        -(2**53),
        1e20,
        2.0**53,
        "\ud800",
        {"\ud800": 1},
        {1: 2},
        b"x",
        cycle,
        {1},
    ):
        with pytest.raises(UsageError):
            jcs.encode(value)


@given(st.integers(-(2**300), 2**300) | st.floats())
def test_recorded_numbers_come_back_exactly(number: float) -> None:
    wrapped = jcs.wrap_number(number)
    again = jcs.unwrap_number(jcs.decode(jcs.encode(wrapped)))
    assert type(again) is type(number)
    assert struct.pack(">d", again) == struct.pack(">d", number) if isinstance(number, float) else again == number


def test_the_recorded_number_vectors() -> None:
    assert jcs.wrap_number(18446744073709551615) == {"int": "18446744073709551615"}
    assert jcs.wrap_number(1.0) == {"f64": "3ff0000000000000"}
    assert jcs.wrap_number(-math.inf) == {"f64": "fff0000000000000"}
    assert jcs.wrap_number(2**53 - 1) == 2**53 - 1
    assert jcs.wrap_number(2**53) == {"int": "9007199254740992"}


@pytest.mark.parametrize(
    "value",
    [
        {"int": "5"}, {"int": "+9007199254740992"}, {"int": "09007199254740992"}, {"int": 9}, {"int": "9" * 5000},
        {"f64": "3FF0000000000000"}, {"f64": "3ff"}, {"f64": 1}, {"int": "9007199254740992", "f64": "0" * 16},
        {}, True, 1.5, "1", None, 2**53, [1], {"int": "٩٠٠٧١٩٩٢٥٤٧٤٠٩٩٢"},
    ],
)  # fmt: skip
def test_other_spellings_of_recorded_numbers_are_refused(value: Any) -> None:
    with pytest.raises(EvidenceError):
        jcs.unwrap_number(value)


ARGUMENTS = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | TEXT,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(TEXT | st.sampled_from(["int", "f64", "map"]), inner, max_size=3)
        | st.dictionaries(st.integers(0, 9), inner, max_size=3)
    ),
    max_leaves=12,
)


@given(ARGUMENTS)
def test_recorded_values_come_back_exactly(value: Any) -> None:
    assert jcs.unwrap_value(jcs.decode(jcs.encode(jcs.wrap_value(value)))) == value


def test_unknown_types_need_a_writer() -> None:
    with pytest.raises(UsageError, match="bytes"):
        jcs.wrap_value({"a": b"x"})
    assert jcs.wrap_value({"a": b"x"}, lambda value: {"opaque": type(value).__name__}) == {"a": {"opaque": "bytes"}}


@pytest.mark.parametrize("value", [{"map": [[1]]}, {"map": [[1, 2], [1, 3]]}, {"map": [[{"a": 1}, 2]]}, {"map": [1]}])
def test_malformed_maps_are_refused(value: Any) -> None:
    with pytest.raises(EvidenceError):
        jcs.unwrap_value(value)
