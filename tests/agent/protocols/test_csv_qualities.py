# SPDX-License-Identifier: Apache-2.0
"""Columns of qualities: each belongs to its value, bad values are gaps, and one that is not used is said."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fedge_agent.protocols.csv import snippet
from fedge_agent.protocols.csv.form import Form
from fedge_agent.protocols.csv.guess import keys_of, understand
from fedge_agent.protocols.csv.quality import reader
from fedge_agent.sources.files import FilesSource
from fedge_agent.sources.files_config import FilesConfig
from fedge_agent.types import Quality
from fedge_models.errors import ConfigError
from fedge_models.system import settings as toml
from support.recording_host import RecordingHost

COUNT = 40
UA = {"time_column": "time", "quality_column": "{tag}_StatusCode"}


def words(good: str, bad: str) -> Callable[[bool], str]:
    return lambda is_good: good if is_good else bad


# Header with {t} for the values of temp and press and {q} for their qualities, their words, and keys.
OWN: dict[str, tuple[str, Callable[[bool], str], dict[str, Any]]] = {
    "beside, one name": ("time,temp,Status,press,Status", words("OK", "Fault"),
                         {"time_column": "time", "quality_column": "next"}),
    "NOK": ("time,temp,temp_status,press,press_status", words("OK", "NOK"),
            {"time_column": "time", "quality_column": "{tag}_status"}),
    "OPC UA, hexadecimal": ("time,temp,temp_StatusCode,press,press_StatusCode", words("0x00000000", "0x80000000"), UA),
    "OPC UA, decimal": ("time,temp,temp_StatusCode,press,press_StatusCode", words("0", "2147483648"),
                        {**UA, "good": ("0",)}),
    "OPC DA": ("time,temp,temp_Quality,press,press_Quality", words("192", "24"),
               {"time_column": "time", "quality_column": "{tag}_Quality"}),
    "valid": ("time,temp,temp_Validity,press,press_Validity", words("valid", "invalid"),
              {"time_column": "time", "quality_column": "{tag}_Validity"}),
    "before each": ("time,Status,temp,Status,press", words("Good", "Bad"),
                    {"time_column": "time", "quality_columns": {"temp": "Status#1", "press": "Status#2"}}),
    "names with units": ("time,temp [°C],temp quality,press [bar],press quality", words("Good", "Bad_NoCommunication"),
                         {"time_column": "time", "quality_columns": {"temp [°C]": "temp quality",
                                                                      "press [bar]": "press quality"}}),
}  # fmt: skip


def table(header: str, word: Callable[[bool], str]) -> str:
    """Each tenth temp is a 0 of bad quality; press is good."""
    made = [header]
    for i in range(COUNT):
        cells, of_temp = [], i % 10 != 0
        values = {"temp": f"{1200 + i if of_temp else 0}", "press": f"1.{i:02}"}
        qualities = iter((word(of_temp), word(True)))
        for name in header.split(","):
            stem = name.split(" [", maxsplit=1)[0]
            cells.append(f"2026-11-24T08:00:{i:02}Z" if name == "time" else values.get(stem) or next(qualities))
        made.append(",".join(cells))
    return "\n".join(made) + "\n"


def read(path: Path) -> dict[str, list[float | None]]:
    """What a source with the lines of `browse` reads, by tag; None: bad."""
    found, config = understand(path), path.with_name("lines.toml")
    config.write_text("\n".join(snippet.lines(path, found, "e")), "utf-8")
    keys = {**toml.read(config)["source"]["e"], "start": "begin"}
    keys.pop("type")
    host = RecordingHost(path.parent)
    host.stop.wait = lambda timeout=None: host.stop.set() or True  # type: ignore[func-returns-value,method-assign]
    FilesSource("e", toml.convert(keys, FilesConfig, str(config))).run(found.tags, host)
    got: dict[str, list[float | None]] = {}
    for r in host.readings:
        got.setdefault(r.tag, []).append(None if r.quality is Quality.BAD else r.value)  # type: ignore[arg-type]
    return got


@pytest.mark.parametrize("name", OWN)
def test_a_quality_beside_each_value_belongs_to_that_value(tmp_path: Path, name: str) -> None:
    header, word, keys = OWN[name]
    (tmp_path / "e.csv").write_text(table(header, word), "utf-8")
    found = understand(tmp_path / "e.csv")
    assert (keys_of(found.form), found.doubts) == (keys, [])
    temp, press = read(tmp_path / "e.csv").values()
    assert temp == [1200.0 + i if i % 10 else None for i in range(COUNT)]
    assert press == [float(f"1.{i:02}") for i in range(COUNT)]


def test_a_quality_of_one_value_alone_leaves_the_other_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "e.csv").write_text(table("time,temp,temp_quality,press", words("Good", "Bad")))
    found = understand(tmp_path / "e.csv")
    assert keys_of(found.form)["quality_columns"] == {"temp": "temp_quality"}
    got = read(tmp_path / "e.csv")
    assert (got["temp"].count(None), got["press"].count(None)) == (COUNT // 10, 0)


@pytest.mark.parametrize(
    ("header", "word", "said"),
    [
        ("time,temp,Status,press", words("Run", "Sensor break"), "column 'Status' may be a quality ('Sensor break'"),
        ("time,temp,x,press,y", words("OK", "NOK"), "column 'x' may be a quality ('NOK', 'OK'), and is not used"),
        ("time,temp,temp_fault,press,press_fault", words("0", "1"), "column 'temp_fault' may be a quality"),
        ("time,temp,press,Status,Status", words("OK", "Fault"), "column 'Status#1' may be a quality"),
        ("time,temp,quality,press", words("Good", "Bad"), "'quality' is taken for the quality of the whole row"),
        ("time,temp,temp_status,press,press_status", words("1", "0"), "quality 1 is taken for good"),
        ("time,temp,temp_status,press,press_status", words("0", "1"), 'good = ["0"] is a guess'),
    ],
)
def test_what_may_be_a_quality_and_is_not_used_or_unclear_is_said(
    tmp_path: Path, header: str, word: Callable[[bool], str], said: str
) -> None:
    (tmp_path / "e.csv").write_text(table(header, word))
    assert [d for d in understand(tmp_path / "e.csv").doubts if said in d]


def test_codes_of_opc_ua_are_read_by_their_severity_unless_a_key_names_them() -> None:
    read_it = reader(Form(good=("good", "0x80320000")))
    for cell, wanted in {
        "0x00000000": Quality.GOOD, "0x00A60000": Quality.GOOD, "0x40920000": Quality.UNCERTAIN,
        "1073741824": Quality.UNCERTAIN, "0x80000000": Quality.BAD, "2150891520": Quality.BAD,
        "0x80320000": Quality.GOOD, "Good": Quality.GOOD, "0": None, "Fault": None,
    }.items():  # fmt: skip
        assert read_it(cell) is wanted, cell


@pytest.mark.parametrize("keys", [{"temp": "Stauts"}, {"tmep": "Status"}])
def test_a_misspelt_quality_column_is_refused(tmp_path: Path, keys: dict[str, str]) -> None:
    (tmp_path / "e.csv").write_text(table("time,temp,Status,press", words("OK", "NOK")))
    form = FilesConfig(path=tmp_path / "e.csv", time_column="time", quality_columns=keys)
    assert "has no column" in FilesSource("e", form).check(["temp"])[0]
    with pytest.raises(ConfigError, match="has no column"):
        FilesSource("e", form).run(["temp"], RecordingHost(tmp_path))
