# SPDX-License-Identifier: Apache-2.0
"""Files as plants write them: what is guessed of each, and that the lines which `browse` writes read it right."""

from __future__ import annotations

import gzip
import tempfile
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from fedge_agent.protocols.csv import columns, first_rows, snippet
from fedge_agent.protocols.csv.guess import keys_of, understand
from fedge_agent.sources.files import FilesSource
from fedge_agent.sources.files_config import FilesConfig
from fedge_agent.types import Quality
from fedge_models.errors import ConfigError
from fedge_models.system import settings as toml
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st
from support.examples import examples
from support.recording_host import RecordingHost

BEGIN = datetime(2026, 11, 24, 8, tzinfo=timezone.utc)
COUNT = 20


def lines(write: Callable[[int, datetime], str], count: int = COUNT) -> str:
    return "".join(write(i, BEGIN + timedelta(seconds=i)) + "\n" for i in range(count))


def comma(value: float, digits: int = 1) -> str:
    return f"{value:.{digits}f}".replace(".", ",")


def excel_day(moment: datetime) -> float:
    return (moment - datetime(1899, 12, 30, tzinfo=timezone.utc)) / timedelta(days=1)


FORMS: dict[str, tuple[str, str, dict[str, Any], list[str]]] = {
    "plain": ("utf-8", "current,vibration,label\n" + lines(lambda i, t: f"{i}.5,1.{i},{'worn' if i % 2 else 'ok'}"),
              {}, ["current", "vibration"]),
    "one column": ("utf-8", "pressure\n" + lines(lambda i, t: f"{i}.5"), {}, ["pressure"]),
    "German Excel export": (
        "cp1252", "Zeit;Temperatur °C;Druck\n" + lines(lambda i, t: f"{t:%d.%m.%Y %H:%M:%S},000;{comma(i)};1,5"),
        {"encoding": "cp1252", "decimal": ",", "time_column": "Zeit", "time_format": "%d.%m.%Y %H:%M:%S,%f"},
        ["Temperatur °C", "Druck"]),
    "preamble, units, thousands": (
        "utf-8", "Report of line 3;;\nOperator: M;;\n\nZeit;Temp;Druck\n;°C;bar\n"
        + lines(lambda i, t: f"{t:%d.%m.%Y %H:%M:%S};20,{i};1.234,5"),
        {"decimal": ",", "thousands": ".", "skip_rows": 3, "skip_after": 1, "time_column": "Zeit",
         "time_format": "%d.%m.%Y %H:%M:%S"}, ["Temp", "Druck"]),
    "comments": ("utf-8", "# logger v1, site x\n# line 3\ntime,temp\n"
                 + lines(lambda i, t: f"{t:%Y-%m-%dT%H:%M:%S}Z,{i}"),
                 {"comment": "#", "time_column": "time"}, ["temp"]),
    "header in a comment": ("utf-8", "# time temp press\n" + lines(lambda i, t: f"{t.timestamp():.0f}   20.{i} 1.5"),
                            {"delimiter": " ", "comment": "#", "columns": ("time", "temp", "press"),
                             "time_column": "time"}, ["temp", "press"]),
    "byte order mark": ("utf-8-sig", "time,temp\n" + lines(lambda i, t: f"{t:%Y-%m-%d %H:%M:%S},{i}"),
                        {"time_column": "time"}, ["temp"]),
    "UTF-16, tab, date and time apart": (
        "utf-16", "Datum\tZeit\tTemp\n" + lines(lambda i, t: f"{t:%d.%m.%Y}\t{t:%H:%M:%S}\t20,{i}"),
        {"decimal": ",", "date_column": "Datum", "time_column": "Zeit", "time_format": "%d.%m.%Y %H:%M:%S"}, ["Temp"]),
    "UTF-16 without a mark": ("utf-16-le", "time\ttemp\n" + lines(lambda i, t: f"{t:%Y-%m-%d %H:%M:%S}\t{i}"),
                              {"encoding": "utf-16-le", "time_column": "time"}, ["temp"]),
    "WinCC": (
        "utf-8", '"VarName";"TimeString";"VarValue";"Validity";"Time_ms"\n'
        + lines(lambda i, t: f'"Temp";"{t:%d.%m.%Y %H:%M:%S}";{comma(20 + i)};1;{comma(excel_day(t) * 1e6, 6)}')
        + '"$RT_OFF$";"24.11.2026 08:01:00";0;2;46350334027,777778\n',
        {"decimal": ",", "time_column": "Time_ms", "time_format": "wincc", "tag_column": "VarName",
         "value_column": "VarValue", "quality_column": "Validity"}, ["Temp"]),
    "historian, a row a value": (
        "utf-8", "Timestamp,TagName,Value,Quality\n"
        + lines(lambda i, t: "\n".join(f"{t:%m/%d/%Y %I:%M:%S %p},{n},{i}.5,{'Good' if i % 5 else 'Bad'}"
                                       for n in ("FIC101.PV", "TI102.PV"))),
        {"time_column": "Timestamp", "time_format": "%m/%d/%Y %I:%M:%S %p", "tag_column": "TagName",
         "value_column": "Value", "quality_column": "Quality"}, ["FIC101.PV", "TI102.PV"]),
    "Unix milliseconds": ("utf-8", "ts,a\n" + lines(lambda i, t: f"{t.timestamp() * 1000:.0f},{i}.5"),
                          {"time_column": "ts"}, ["a"]),
    "Excel day numbers": ("utf-8", "time,temp\n" + lines(lambda i, t: f"{excel_day(t):.8f},{i}"),
                          {"time_column": "time", "time_format": "excel"}, ["temp"]),
    "a quality each": ("utf-8", "time,temp,temp_quality,p,p_quality\n"
                       + lines(lambda i, t: f"{t:%Y-%m-%d %H:%M:%S},{i},Good,1.5,{'Bad' if i == 3 else 'Good'}"),
                       {"time_column": "time", "quality_column": "{tag}_quality"}, ["temp", "p"]),
    "a quality behind each": ("utf-8", "time;temp;Quality;p;Quality\n"
                              + lines(lambda i, t: f"{t:%Y-%m-%d %H:%M:%S};{i};192;1.5;192"),
                              {"time_column": "time", "quality_column": "next"}, ["temp", "p"]),
    "markers": ("utf-8", "time,temp,p\n"
                + lines(lambda i, t: f"{t:%Y-%m-%d %H:%M:%S},{'Bad' if i % 3 else i},"
                                     f"{'--' if i % 4 == 1 else '#N/A' if i % 5 == 1 else 1.5}"),
                {"time_column": "time"}, ["temp", "p"]),
    "no header": ("utf-8", lines(lambda i, t: f"{t:%Y-%m-%d %H:%M:%S},20.{i}"),
                  {"delimiter": ",", "columns": ("column1", "column2"), "time_column": "column1"}, ["column2"]),
    "seconds of a recording": ("utf-8", "time_s,a\n" + lines(lambda i, t: f"{i / 10},{i}.5"),
                               {"time_column": "time_s", "time_format": "elapsed"}, ["a"]),
    "English thousands": ("utf-8", "time,flow\n" + lines(lambda i, t: f'{t:%Y-%m-%d %H:%M:%S},"1,{200 + i}.5"'),
                          {"thousands": ",", "time_column": "time"}, ["flow"]),
    "Swiss thousands": ("utf-8", "Zeit;Menge\n" + lines(lambda i, t: f"{t:%d.%m.%Y %H:%M:%S};1'{200 + i}.5"),
                        {"thousands": "'", "time_column": "Zeit", "time_format": "%d.%m.%Y %H:%M:%S"}, ["Menge"]),
}  # fmt: skip


@pytest.mark.parametrize("name", FORMS)
def test_form_is_guessed_and_its_first_rows_read_without_a_problem(tmp_path: Path, name: str) -> None:
    encoding, text, keys, tags = FORMS[name]
    path = tmp_path / "export.csv"
    path.write_bytes(text.encode(encoding))
    found = understand(path)
    assert (keys_of(found.form), found.tags) == (keys, tags)
    assert first_rows.problems(path, found.form, found.tags, follow=False) == []
    packed = tmp_path / "export.csv.gz"
    packed.write_bytes(gzip.compress(path.read_bytes()))
    assert understand(packed) == found


def followed(path: Path, found: Any) -> list[tuple[str, int, float | None]]:
    """What a source with the written lines reads: (tag, time, value), None for bad ones."""
    config = path.with_name("lines.toml")
    config.write_text("\n".join(snippet.lines(path, found, "export")), "utf-8")
    table = {**toml.read(config)["source"]["export"], "start": "begin"}
    assert table.pop("type") == "files" and table["tail"]
    host = RecordingHost(path.parent)
    host.stop.wait = lambda timeout=None: host.stop.set() or True  # type: ignore[func-returns-value,method-assign]
    FilesSource("export", toml.convert(table, FilesConfig, str(config))).run(found.tags, host)
    assert not host.problems
    return [(r.tag, r.time_ns, None if r.quality is Quality.BAD else r.value) for r in host.readings]  # type: ignore[misc]


PREAMBLES = {
    "as wide as the table": "".join(f"Key{i};v{i};{i}\n" for i in range(12)) + "time;temp;press\n",
    "two lines of units": "time;temp;press\ns;°C;bar\n;avg;avg\n",
}


@pytest.mark.parametrize("name", PREAMBLES)
def test_header_is_found_behind_a_preamble_and_before_units(tmp_path: Path, name: str) -> None:
    (tmp_path / "e.csv").write_text(PREAMBLES[name] + lines(lambda i, t: f"{t:%d.%m.%Y %H:%M:%S};{20 + i},5;1,{i}"))
    got = followed(tmp_path / "e.csv", understand(tmp_path / "e.csv"))
    assert [v for tag, _, v in got if tag == "temp"] == [20.5 + i for i in range(COUNT)]


def test_rows_that_wincc_writes_about_its_log_are_no_channels_and_stop_nothing(tmp_path: Path) -> None:
    encoding, text, _, tags = FORMS["WinCC"]
    path = tmp_path / "e.csv"
    path.write_bytes((text + '"$RT_COUNT$";"600";;;\n').encode(encoding))
    found = understand(path)
    assert (found.tags, first_rows.problems(path, found.form, tags, follow=True)) == (tags, [])
    assert len(followed(path, found)) == COUNT
    assert columns.read(path, found.form, tags, [], 1.0).numbers[tags[0]].tolist() == [20.0 + i for i in range(COUNT)]


def test_written_lines_read_wincc_to_the_millisecond_and_quality_into_gaps(tmp_path: Path) -> None:
    for name in ("WinCC", "historian, a row a value", "a quality each", "markers"):
        encoding, text, _, _ = FORMS[name]
        (tmp_path / "e.csv").write_bytes(text.encode(encoding))
        (tmp_path / "position.json").unlink(missing_ok=True)
        got = followed(tmp_path / "e.csv", understand(tmp_path / "e.csv"))
        begin = round(BEGIN.timestamp()) * 10**9
        if name == "WinCC":
            assert got[:COUNT] == [("Temp", begin + i * 10**9, 20.0 + i) for i in range(COUNT)]
        elif name.startswith("hist"):
            wanted = [(n, begin + i * 10**9, i + 0.5 if i % 5 else None) for i in range(COUNT)
                      for n in ("FIC101.PV", "TI102.PV")]  # fmt: skip
            assert got == wanted
        elif name == "a quality each":
            assert [v for tag, _, v in got if tag == "p"] == [None if i == 3 else 1.5 for i in range(COUNT)]
        else:
            assert [v for tag, _, v in got if tag == "temp"] == [None if i % 3 else i for i in range(COUNT)]


INFLUX = "#datatype,string\n,result,table,_start,_time,_value,_field\n"
LOGGERS: dict[str, tuple[str, dict[str, Any], list[str]]] = {
    "Campbell TOA5": (
        '"TOA5","Station","CR1000","1234","CR1000.Std.32","CPU:p.CR1","55555","Table1"\n"TIMESTAMP","RECORD","T_Avg"\n'
        '"TS","RN","Deg C"\n"","","Avg"\n' + lines(lambda i, t: f'"{t:%Y-%m-%d %H:%M:%S}",{i},20.{i}'),
        {"skip_rows": 1, "skip_after": 2, "time_column": "TIMESTAMP"}, ["RECORD", "T_Avg"]),
    "LabVIEW measurement": (
        "LabVIEW Measurement\t\nSeparator\tTab\nDate\t2026/11/24\nTime\t08:00:00.1234\n***End_of_Header***\t\n\t\n"
        "Channels\t1\t\t\nSamples\t20\t\t\nX0\t0.0E+0\t\t\nDelta_X\t1.0\t\t\n***End_of_Header***\t\t\n"
        "X_Value\tVoltage\tComment\n" + lines(lambda i, t: f"{i}.000000\t{i}.5\t"),
        {"skip_rows": 11, "comment": "*"}, ["X_Value", "Voltage"]),
    "Graphtec": (
        "Vendor,x\nData\nNumber,Date&Time,ms,CH1\nNO.,Time,ms,degC\n"
        + lines(lambda i, t: f"{i},{t:%Y/%m/%d %H:%M:%S},0,+{i:9.1f}"),
        {"skip_rows": 2, "skip_after": 1, "time_column": "Date&Time", "time_format": "%Y/%m/%d %H:%M:%S"},
        ["Number", "ms", "CH1"]),
    "Yokogawa": (
        "Date,Time,sec,CH1\nYYYY/MM/DD,hh:mm:ss,ms,degC\n" + lines(lambda i, t: f"{t:%Y/%m/%d,%H:%M:%S},000,{i}.5"),
        {"skip_after": 1, "date_column": "Date", "time_column": "Time", "time_format": "%Y/%m/%d %H:%M:%S"},
        ["sec", "CH1"]),
    "HOBO": (
        '"Plot Title: x"\n"#","Date Time, GMT-05:00","Temp, °C"\n'
        + lines(lambda i, t: f"{i},{t:%m/%d/%y %I:%M:%S %p},{i}.5"),
        {"skip_rows": 1, "time_column": "Date Time, GMT-05:00", "time_format": "%m/%d/%y %I:%M:%S %p",
         "time_zone": "-05:00"}, ["#", "Temp, °C"]),
    "Windows performance": (
        '"(PDH-CSV 4.0) (W. Europe Standard Time)(-60)","CPU"\n'
        + lines(lambda i, t: f'"{t:%m/%d/%Y %H:%M:%S}.000","{i}.5"'),
        {"time_column": "(PDH-CSV 4.0) (W. Europe Standard Time)(-60)", "time_format": "%m/%d/%Y %H:%M:%S.%f",
         "time_zone": "+01:00"}, ["CPU"]),
    "BenchLink": (
        "Name:,x\n\nScan,Time,101 (C)\n" + lines(lambda i, t: f"{i},{t:%m/%d/%Y %H:%M:%S}:000,{i}.5"),
        {"skip_rows": 2, "time_column": "Time", "time_format": "%m/%d/%Y %H:%M:%S:%f"}, ["Scan", "101 (C)"]),
    "pandas": (",temp\n" + lines(lambda i, t: f"{t:%Y-%m-%d %H:%M:%S},{i}.5"), {"time_column": "column1"}, ["temp"]),
    "Ignition": (
        '"#NAMES"\n"t_stamp","T","P"\n"#TYPES"\n"date","D","D"\n"#ROWS","20"\n'
        + lines(lambda i, t: f'"{t:%b %d, %Y %I:%M:%S %p}","{i}.5","1"'),
        {"skip_rows": 1, "skip_after": 3, "time_column": "t_stamp", "time_format": "%b %d, %Y %I:%M:%S %p"},
        ["T", "P"]),
    "Grafana": ("Series;Time;Value\n" + lines(lambda i, t: f"temp;{t:%Y-%m-%dT%H:%M:%S}+00:00;{i}.5"),
                {"time_column": "Time", "tag_column": "Series", "value_column": "Value"}, ["temp"]),
    "Excel's sep line with its own delimiter": (
        'sep=,\n"Time","temp"\n' + lines(lambda i, t: f"{t.timestamp() * 1000:.0f},{i}.5"),
        {"skip_rows": 1, "time_column": "Time"}, ["temp"]),
    "InfluxDB with a table for each field": (
        INFLUX + lines(lambda i, t: f",,0,2026-11-24T07:00:00Z,{t:%Y-%m-%dT%H:%M:%S}Z,{i}.5,temp") + "\n"
        + INFLUX + lines(lambda i, t: f",,1,2026-11-24T07:00:00Z,{t:%Y-%m-%dT%H:%M:%S}Z,{i}.5,press"),
        {"comment": "#", "time_column": "_time", "tag_column": "_field", "value_column": "_value"}, ["temp", "press"]),
}  # fmt: skip


@pytest.mark.parametrize("name", LOGGERS)
def test_files_of_loggers_are_understood_with_their_names_and_times(tmp_path: Path, name: str) -> None:
    text, keys, tags = LOGGERS[name]
    path = tmp_path / "e.csv"
    path.write_text(text, "utf-8")
    found = understand(path)
    assert (keys_of(found.form), found.tags) == (keys, tags)
    assert first_rows.problems(path, found.form, found.tags, follow=False) == []
    if "time_column" in keys and found.order.kind == "forward":
        got = [(t, v) for tag, t, v in followed(path, found) if tag == tags[-1]]
        offset = {"-05:00": 5, "+01:00": -1}.get(keys.get("time_zone", ""), 0)
        first = round((BEGIN + timedelta(hours=offset)).timestamp()) * 10**9
        values = [1.0 if tags[-1] == "P" else i + 0.5 for i in range(COUNT)]
        wanted = [float(i) if name == "Graphtec" else float(f"20.{i}") if "TOA5" in name else v
                  for i, v in enumerate(values)]  # fmt: skip
        assert got == [(first + i * 10**9, v) for i, v in enumerate(wanted)]


EPOCH = round(BEGIN.timestamp())
TIMES: dict[str, Callable[[datetime], object]] = {
    "pandas": lambda t: f"{t:%Y-%m-%d %H:%M:%S} UTC",
    "Go": lambda t: f"{t:%Y-%m-%d %H:%M:%S} +0000 UTC",
    "German date, UTC": lambda t: f"{t:%d.%m.%Y %H:%M:%S} UTC",
    "asctime": lambda t: f"{t:%a %b %d %H:%M:%S %Y}",
    "date": lambda t: f"{t:%a %b %d %H:%M:%S} UTC {t:%Y}",
    "day of the year": lambda t: f"{t:%Y-%j %H:%M:%S}",
    "IEC 61131": lambda t: f"DT#{t:%Y-%m-%d-%H:%M:%S}",
    "labview": lambda t: f"{t.timestamp() + 2_082_844_800:.3f}",
    "filetime": lambda t: (round(t.timestamp()) + 11_644_473_600) * 10**7,
    "ticks": lambda t: (round(t.timestamp()) + 62_135_596_800) * 10**7,
    "matlab": lambda t: f"{t.timestamp() / 86_400 + 719_529:.8f}",
}


@pytest.mark.parametrize("name", TIMES)
def test_times_of_other_programs_are_read_at_their_moment(tmp_path: Path, name: str) -> None:
    (tmp_path / "e.csv").write_text("time,temp\n" + lines(lambda i, t: f"{TIMES[name](t)},20.{i}"))
    found = understand(tmp_path / "e.csv")
    assert (found.tags, first_rows.problems(tmp_path / "e.csv", found.form, ["temp"], follow=True)) == (["temp"], [])
    assert [at for _, at, _ in followed(tmp_path / "e.csv", found)] == [(EPOCH + i) * 10**9 for i in range(COUNT)]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("time,a,b\n" + lines(lambda i, t: f"{t:%Y-%m-%d %H:%M:%S} CET,{i},{i}"), "its times are not understood"),
        ("time,a\n" + lines(lambda i, t: f"{848_822_400 + i},{i}"), "column 'time': it may be the times"),
        ("millis,temp\n" + lines(lambda i, t: f"{i * 1000 + 3},20.{i}"), "column 'millis': it may be the times"),
        ("TIME,CH1\n" + lines(lambda i, t: f"{(i - 9) / 100:.6e},20.{i}"), "column 'TIME': it may be the times"),
        ("when,a\n" + lines(lambda i, t: f"{t:%a %b %d %H:%M:%S} CET {t:%Y},{i}"), "its times are not understood"),
        (
            '"time" "temp"\n' + lines(lambda i, t: f'"{i}" "{t:%Y-%m-%dT%H:%M:%SZ}" {i}'),
            "line 1 has 2 cells, the rows 3",
        ),
    ],
)
def test_times_and_names_that_are_not_understood_are_said(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "e.txt").write_text(text)
    assert [d for d in understand(tmp_path / "e.txt").doubts if words in d]


DOUBTS: dict[str, tuple[str, dict[str, Any], str]] = {
    "a footer": ("Zeit;T1\n" + lines(lambda i, t: f"{t:%d.%m.%Y %H:%M:%S};20,{i}") + "Ende;;;\n",
                 {"decimal": ",", "time_column": "Zeit", "time_format": "%d.%m.%Y %H:%M:%S"}, ""),
    "only a header": ("time,temp\n", {"time_column": "time"}, "it has a header and no rows"),
    "Excel's sep line": ("sep=;\nZeit;T1\n" + lines(lambda i, t: f"{t:%Y-%m-%d %H:%M:%S};{i},5"),
                         {"decimal": ",", "skip_rows": 1, "time_column": "Zeit"}, ""),
    "days of the week": ("Time;T\n" + lines(lambda i, t: f"Di, {t:%d.%m.%Y %H:%M:%S};{i}"),
                         {"time_column": "Time", "time_format": "%a, %d.%m.%Y %H:%M:%S"}, ""),
    "InfluxDB": ("#group,false\n#default,_result,\n,table,_time,_value,_field\n"
                 + lines(lambda i, t: f",0,{t:%Y-%m-%dT%H:%M:%S}Z,{i}.5,temp"),
                 {"comment": "#", "time_column": "_time", "tag_column": "_field", "value_column": "_value"}, ""),
    "a time for each tag": ("A Time;A;B Time;B\n"
                            + lines(lambda i, t: f"{t:%Y-%m-%d %H:%M:%S};{i};{t:%Y-%m-%d %H:%M:%S};1"),
                            {"time_column": "A Time"}, "column 'B Time' is a time, too; rows are taken at 'A Time'"),
    "times of day": ("time;T1\n" + lines(lambda i, t: f"{t:%H:%M:%S};{i}"), {},
                     "column 'time' has times without a date"),
    "units in cells": ("time,temp\n" + lines(lambda i, t: f"{t:%Y-%m-%d %H:%M:%S},20.{i} bar"), {"time_column": "time"},
                       "column 'temp': '20.0 bar' has a unit behind its number"),
    "thousands or a fraction": ("Zeit;kWh\n" + lines(lambda i, t: f"{t:%d.%m.%Y %H:%M:%S};1.{200 + i}"),
                                {"time_column": "Zeit", "time_format": "%d.%m.%Y %H:%M:%S"},
                                "'1.200' is read as 1.2; if it is 1200, say decimal = \",\", thousands = \".\""),
    "groups by either sign": ('time,kWh,bar\n' + lines(lambda i, t: f'{t:%Y-%m-%d %H:%M:%S},"1,{200 + i}",3.0{10 + i}'),
                              {"time_column": "time", "thousands": ","},
                              "'1,200' is read as 1200; if it is 1.2, say decimal = \",\", thousands = \".\""),
}  # fmt: skip


@pytest.mark.parametrize("name", DOUBTS)
def test_what_is_only_a_guess_is_said(tmp_path: Path, name: str) -> None:
    text, keys, doubt = DOUBTS[name]
    (tmp_path / "e.csv").write_text(text)
    found = understand(tmp_path / "e.csv")
    assert keys_of(found.form) == keys
    assert [d for d in found.doubts if doubt in d] if doubt else not found.doubts


@pytest.mark.parametrize(
    ("encoding", "names"),
    [
        ("cp932", "日時,温度(℃),ポンプ圧力"),
        ("cp932", "日時,温度(℃),圧力"),
        ("gb18030", "时间,温度,压力"),
        ("cp949", "시간,온도,압력"),
        ("cp1251", "Время,Температура,Давление"),
        ("cp1252", "Zeit,Größe,Temperatur °C"),
        ("cp1252", "Time,Débit m³/h,Température"),
    ],
)
def test_encoding_is_guessed_by_the_script_of_its_letters_and_others_are_doubted(
    tmp_path: Path, encoding: str, names: str
) -> None:
    text = names + "\n" + lines(lambda i, t: f"{t:%Y-%m-%d %H:%M:%S},{i},1.5")
    (tmp_path / "e.csv").write_bytes(text.encode(encoding))
    found = understand(tmp_path / "e.csv")
    assert found.form.encoding == encoding and found.tags == names.split(",")[1:]
    assert [f"encoding = {encoding!r} is a guess" in d for d in found.doubts] == (
        [True] if encoding != "cp1252" else []
    )


def test_doubts_are_said(tmp_path: Path) -> None:
    path = tmp_path / "e.csv"
    path.write_text("t;a\n" + "".join(f"03/04/2026 08:00:{i:02};1,{200 + i}\n" for i in range(9)))
    found = understand(path)
    assert any(
        "'03/04/2026 08:00:00' is taken for 2026-04-03; if it is 2026-03-04, say time_format = '%m/%d/%Y" in d
        for d in found.doubts
    )
    assert any("'1,200' is read as 1.2; if it is 1200" in d for d in found.doubts)
    assert "# time_zone =" in "\n".join(snippet.lines(path, found, "e"))


@pytest.mark.parametrize("text", [b"", b"\n\n"])
def test_file_without_a_table_says_so(tmp_path: Path, text: bytes) -> None:
    (tmp_path / "e.csv").write_bytes(text)
    with pytest.raises(ConfigError, match="no table was found"):
        understand(tmp_path / "e.csv")


class Style(NamedTuple):
    """How a made file is written."""

    encoding: str
    delimiter: str
    decimal: str
    time: str  # format of strftime, or a name
    preamble: int
    units: bool
    long: bool
    split: bool


def written(style: Style, names: list[str], values: list[list[float]], step_s: int) -> str:
    """The text of a file."""

    def number(value: float) -> str:
        return f"{value:.3f}".replace(".", style.decimal)

    def moment(at: datetime) -> list[str]:
        if style.time == "unix-ms":
            return [f"{at.timestamp() * 1000:.0f}"]
        if style.time == "excel":
            return [f"{excel_day(at):.9f}".replace(".", style.decimal)]
        text = at.strftime(style.time)
        return text.split(" ", 1) if style.split else [text]

    heads = ["Date", "Time"] if len(moment(BEGIN)) == 2 else ["Timestamp"]
    made = [f"Export of line {i}" for i in range(style.preamble)]
    made.append(style.delimiter.join([*heads, "TagName", "Value"] if style.long else [*heads, *names]))
    if style.units and not style.long:
        made.append(style.delimiter.join(["" for _ in heads] + ["[bar]" for _ in names]))
    for i, row in enumerate(values):
        cells = moment(BEGIN + timedelta(seconds=i * step_s))
        if style.long:
            made += [style.delimiter.join([*cells, n, number(v)]) for n, v in zip(names, row, strict=True)]
        else:
            made.append(style.delimiter.join([*cells, *map(number, row)]))
    return "\r\n".join(made) + "\r\n"


STYLES = st.builds(
    Style,
    st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "utf-16-be", "cp1252"]),
    st.sampled_from([";", "\t", "|", ","]),
    st.sampled_from([".", ","]),
    st.sampled_from(
        [
            *("%d.%m.%Y %H:%M:%S", "%Y-%m-%d %H:%M:%S", "%m/%d/%Y %I:%M:%S %p", "%Y/%m/%d %H:%M:%S.%f"),
            *("%d-%b-%Y %H:%M:%S", "%d.%m.%y %H:%M:%S", "%Y%m%d %H%M%S", "%Y-%m-%dT%H:%M:%SZ", "unix-ms", "excel"),
        ]
    ),
    st.integers(0, 3), st.booleans(), st.booleans(), st.booleans(),
).filter(lambda s: s.delimiter != s.decimal and not (s.split and " " not in s.time))  # fmt: skip
NAMES = st.lists(st.sampled_from(["Temp °C", "Druck", "FIC-101.PV", "n", "x1"]), min_size=2, max_size=4, unique=True)


@seed(11)
@settings(max_examples=examples(120), deadline=None, database=None, suppress_health_check=list(HealthCheck))
@given(STYLES, NAMES, st.integers(5, 30), st.sampled_from([1, 7, 60, 3600]), st.randoms(use_true_random=False))
def test_written_lines_read_what_was_written(style: Style, names: list[str], rows: int, step_s: int, rng: Any) -> None:
    values = [[round(rng.uniform(-50, 1500), 3) for _ in names] for _ in range(rows)]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "export.csv"
        path.write_bytes(written(style, names, values, step_s).encode(style.encoding))
        found = understand(path)
        got = followed(path, found)
    first = round(BEGIN.timestamp()) * 10**9
    assert got == [
        (name, first + i * step_s * 10**9, value)
        for i, row in enumerate(values)
        for name, value in zip(names, row, strict=True)
    ], keys_of(found.form)
