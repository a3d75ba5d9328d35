"""Digest, hex, base64 and time texts have one spelling each."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st
from plausible.schemas import text
from plausible.schemas.errors import EvidenceError, UsageError


@given(st.binary(min_size=32, max_size=32))
def test_digests_round_trip(digest: bytes) -> None:
    assert text.parse_digest(text.digest_text(digest)) == digest


@pytest.mark.parametrize(
    "bad", [
        "", "sha256:", "sha256:" + "A" * 64, "SHA256:" + "a" * 64, "a" * 64,
        "sha256:" + "a" * 64 + "\n", "sha256:" + "a" * 63 + "٠",
    ]
)  # fmt: skip
def test_other_digest_spellings_are_refused(bad: str) -> None:
    with pytest.raises(EvidenceError):
        text.parse_digest(bad)


def test_a_digest_has_32_bytes() -> None:
    with pytest.raises(UsageError):
        text.digest_text(bytes(31))


@given(st.binary(max_size=40))
def test_base64_round_trips(data: bytes) -> None:
    assert text.unb64(text.b64(data)) == data


@pytest.mark.parametrize("bad", ["QR==", "QQ", "QQ=", "Q Q=", "QQ==\n", "_-==", "é", "====", "QQ==QQ=="])
def test_other_base64_is_refused(bad: str) -> None:
    with pytest.raises(EvidenceError):
        text.unb64(bad)


@pytest.mark.parametrize("bad", ["0", "AB", "0g", "ab\n", "abc", ""])
def test_other_hex_is_refused(bad: str) -> None:
    with pytest.raises(EvidenceError):
        text.parse_hex(bad, 1)
    assert text.parse_hex("ab", 1) == b"\xab"


@given(st.datetimes(timezones=st.just(UTC)))
def test_times_round_trip(time: datetime) -> None:
    assert text.parse_time(text.format_time(time)) == time


@given(st.datetimes(timezones=st.just(UTC)), st.datetimes(timezones=st.just(UTC)))
def test_time_texts_sort_as_times_do(one: datetime, other: datetime) -> None:
    assert (text.format_time(one) < text.format_time(other)) == (one < other)


def test_times_are_written_in_utc() -> None:
    time = datetime(2026, 3, 1, 1, 2, 3, 4, tzinfo=timezone(timedelta(hours=2)))
    assert text.format_time(time) == "2026-02-28T23:02:03.000004Z"
    assert text.posix_microseconds(datetime(1970, 1, 1, 0, 0, 1, 5, tzinfo=UTC)) == 1_000_005
    with pytest.raises(UsageError):
        text.format_time(datetime(2026, 1, 1))
    assert text.parse_time(text.format_time(text.now())) <= text.now()


@pytest.mark.parametrize(
    "bad",
    [
        "2026-01-01T00:00:00Z", "2026-01-01T00:00:00.000Z",
        "2026-01-01 00:00:00.000000Z", "2026-13-01T00:00:00.000000Z",
        "2026-02-30T00:00:00.000000Z", "2026-01-01T23:59:60.000000Z", "2026-01-01T00:00:00.000000+00:00", "",
        "0000-01-01T00:00:00.000000Z", "2026-01-01T00:00:00.000000Z\n", "٢٠٢٦-01-01T00:00:00.000000Z",
    ],
)  # fmt: skip
def test_other_time_spellings_are_refused(bad: str) -> None:
    with pytest.raises(EvidenceError):
        text.parse_time(bad)
