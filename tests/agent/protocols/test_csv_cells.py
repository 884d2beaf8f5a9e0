# SPDX-License-Identifier: Apache-2.0
"""Cells of tables: numbers of every style, times of every format, zones, day numbers."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from zoneinfo import ZoneInfo

import pytest
from fedge_agent.protocols.csv.clock import Clock, MissingHourError
from fedge_agent.protocols.csv.form import TableForm
from fedge_agent.protocols.csv.numbers import reader
from fedge_agent.protocols.csv.strptime import Format
from fedge_models.errors import ConfigError
from fedge_models.system import settings as toml
from hypothesis import given, seed, settings
from hypothesis import strategies as st
from support.examples import examples

S = 10**9
BERLIN = ZoneInfo("Europe/Berlin")


def ns(text: str) -> int:
    """Nanoseconds since 1970 of an ISO time with its offset."""
    return round(datetime.fromisoformat(text).timestamp()) * S


@pytest.mark.parametrize(
    ("decimal", "thousands", "cell", "value"),
    [
        (".", "", "20.5", 20.5), (".", "", "20,5", None), (".", "", "1e-3", 1e-3), (".", "", "inf", None),
        (".", "", "1_000", None), (".", "", "٣", None), (".", "", "nan", None),
        (",", "", "20,5", 20.5), (",", "", "20.5", None), (",", "", "1,2,3", None), (",", "", "-1,5e3", -1500.0),
        (",", ".", "1.234,5", 1234.5), (",", ".", "1.234.567", 1234567.0), (",", ".", "1.5", None),
        (",", ".", "12345,6", 12345.6), (",", ".", "1.23,4", None), (".", ",", "1,234.5", 1234.5),
        (".", ",", "1,23", None), (",", " ", "1 234,5", 1234.5), (",", " ", "1\u00a0234,5", 1234.5),
        (",", " ", "1\u202f234", 1234.0), (".", "'", "1'234.5", 1234.5), (".", "'", "1’234.5", 1234.5),
        (".", ",", "", None), (".", ",", ",5", None),
    ],
)  # fmt: skip
def test_number_is_read_in_its_style_or_not_at_all(decimal: str, thousands: str, cell: str, value: float) -> None:
    form = TableForm(decimal=decimal, thousands=thousands)  # type: ignore[arg-type]
    assert reader(form)(cell) == value


MOMENT = "2026-11-24T08:00:01+01:00"


@pytest.mark.parametrize(
    ("keys", "cell"),
    [
        ({"time_format": "%d.%m.%Y %H:%M:%S,%f", "time_zone": "Europe/Berlin"}, "24.11.2026 08:00:01,000"),
        ({"time_format": "%m/%d/%Y %I:%M:%S %p", "time_zone": "+01:00"}, "11/24/2026 8:00:01 AM"),
        ({"time_format": "%d-%b-%y %H:%M:%S"}, "24-NOV-26 07:00:01"),
        ({"time_format": "%d. %B %Y %H:%M:%S"}, "24. November 2026 07:00:01"),
        ({"time_format": "%Y%m%d%H%M%S"}, "20261124070001"),
        ({"time_format": "%Y-%j %H:%M:%S"}, "2026-328 07:00:01"),
        ({"time_format": "%d.%m.%Y %H:%M:%S %z"}, "24.11.2026 09:00:01 +02:00"),
        ({"time_format": "%a %d.%m.%Y %H:%M:%S"}, "Di 24.11.2026   07:00:01"),
        ({}, "2026-11-24T08:00:01+01:00"),
        ({"time_zone": "Europe/Berlin"}, "2026-11-24 08:00:01"),
        ({}, "1795503601"),
        ({}, "1795503601000"),
        ({"time_format": "unix-us"}, "1795503601000000"),
        ({"time_format": "unix-ns"}, "1795503601000000000"),
        ({"time_format": "unix", "decimal": ","}, "1795503601,0"),
        ({"time_format": "excel", "time_zone": "Europe/Berlin"}, "46350.33334490741"),
        ({"time_format": "excel", "decimal": ",", "time_zone": "Europe/Berlin"}, "46350,33334491"),
        ({"time_format": "excel-1904", "time_zone": "Europe/Berlin"}, "44888.33334490741"),
        ({"time_format": "wincc", "decimal": ",", "time_zone": "Europe/Berlin"}, "46350333344,90741"),
    ],
)
def test_one_moment_in_every_form(keys: dict[str, str], cell: str) -> None:
    assert abs(Clock(TableForm(**keys)).parse(cell) - ns(MOMENT)) <= 10**6  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "cell", ["46350.33", "0", "12", "1e8", "600000000", "848822400", "-5", "true", "", "24.11.2026"]
)
def test_number_that_is_no_time_of_our_days_is_refused(cell: str) -> None:
    with pytest.raises(ValueError, match="time"):
        Clock(TableForm()).parse(cell)


def test_fractions_are_read_to_the_nanosecond() -> None:
    assert Format("%Y-%m-%d %H:%M:%S.%f").parse("2026-11-24 08:00:00.1234567")[0] % S == 123_456_700


@pytest.mark.parametrize("cell", ["31.02.2026 08:00:00", "24.13.2026 08:00:00", "24.11.2026 25:00:00", "24.11.2026 8"])
def test_time_that_no_calendar_has_is_refused(cell: str) -> None:
    with pytest.raises(ValueError, match=r"24|31"):
        Format("%d.%m.%Y %H:%M:%S").parse(cell)


FORMATS = ["%d.%m.%Y %H:%M:%S", "%Y/%m/%d %H:%M:%S.%f", "%m/%d/%y %I:%M:%S %p", "%d-%b-%Y %H:%M:%S", "%Y%m%d %H%M%S"]


@seed(5)
@settings(max_examples=examples(150), deadline=None, database=None)
@given(st.sampled_from(FORMATS), st.datetimes(datetime(1990, 1, 1), datetime(2060, 1, 1)))
def test_formats_read_what_strftime_writes(text: str, moment: datetime) -> None:
    cell = moment.strftime(text)
    wanted = datetime.strptime(cell, text).replace(tzinfo=timezone.utc)
    found = Format(text).parse(cell)[0]
    assert found == (wanted - datetime(1970, 1, 1, tzinfo=timezone.utc)) // timedelta(microseconds=1) * 1000


@pytest.mark.parametrize("step_s", [1, 10, 60, 600, 900, 1800, 3600])
@pytest.mark.parametrize("jitter", [0, 1])
def test_hour_that_comes_twice_is_told_apart_by_the_order_of_the_rows(step_s: int, jitter: int) -> None:
    first = ns("2026-10-25T00:00:00+02:00")
    wanted = [first + i * step_s * S for i in range(6 * 3600 // step_s)]
    if jitter and step_s < 1800:  # two rows that changed places
        wanted[5], wanted[6] = wanted[6], wanted[5]
    clock = Clock(TableForm(time_zone="Europe/Berlin"))
    local = [datetime.fromtimestamp(t // S, BERLIN).strftime("%Y-%m-%d %H:%M:%S") for t in wanted]
    wrong = [(cell, t) for cell, t in zip(local, wanted, strict=True) if clock.parse(cell) != t]
    assert wrong[:3] == []  # not the whole lists: pytest compares long ones for minutes
    assert clock.repeated == 2 * 3600 // step_s


def test_hour_that_comes_twice_in_a_table_with_a_row_a_value() -> None:
    clock = Clock(TableForm(time_zone="Europe/Berlin"))
    wanted = [ns("2026-10-25T01:00:00+02:00") + i * 3600 * S for i in range(4)]
    for t in wanted:
        cell = datetime.fromtimestamp(t // S, BERLIN).strftime("%Y-%m-%d %H:%M:%S")
        assert [clock.parse(cell, tag) for tag in "abc"] == [t] * 3


def test_hour_that_clocks_jump_over_is_no_time() -> None:
    clock = Clock(TableForm(time_zone="Europe/Berlin", time_format="%d.%m.%Y %H:%M"))
    assert clock.parse("29.03.2026 01:59") == ns("2026-03-29T01:59:00+01:00")
    with pytest.raises(MissingHourError, match=r'does not exist in Europe/Berlin.*time_zone = "\+01:00"'):
        clock.parse("29.03.2026 02:30")
    assert clock.parse("29.03.2026 03:00") == ns("2026-03-29T03:00:00+02:00")
    assert Clock(TableForm(time_zone="+01:00")).parse("2026-03-29 02:30:00") == ns("2026-03-29T02:30:00+01:00")


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"encoding": "utf-99"}, "encoding: 'utf-99' is not known"),
        ({"encoding": "cp500"}, "a line end is not one byte"),
        ({"encoding": "rot13"}, "encoding"),
        ({"decimal": ",", "thousands": ","}, "decimal and thousands are both ','"),
        ({"time_format": "exel"}, "did you mean 'excel'"),
        ({"time_format": "%H:%M"}, "has no year, month and day"),
        ({"time_format": "%Q"}, "%Q is not known here"),
        ({"time_zone": "Mars/Olympus"}, "time_zone: 'Mars/Olympus'"),
        ({"date_column": "d"}, "time_column is missing"),
        ({"columns": ["a"]}, "delimiter: missing"),
        ({"delimiter": '"'}, "cannot be one"),
        ({"skip_rows": -1}, "skip_rows"),
    ],
)
def test_key_that_cannot_be_meant_is_refused(keys: dict[str, object], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        toml.convert(keys, TableForm, "gw.toml", "source.f")
