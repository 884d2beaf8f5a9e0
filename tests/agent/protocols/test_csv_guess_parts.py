# SPDX-License-Identifier: Apache-2.0
"""What `browse` reads right or doubts by name: words at a table's end, parts of times, tags in other languages."""

from __future__ import annotations

from pathlib import Path

import pytest
from fedge_agent.protocols.csv import first_rows, listing
from fedge_agent.protocols.csv.clock import Clock
from fedge_agent.protocols.csv.form import TableForm
from fedge_agent.protocols.csv.guess import Understood, keys_of, understand
from fedge_models.errors import ConfigError
from fedge_models.system import times


def guessed(folder: Path, text: str, name: str = "d.csv") -> Understood:
    path = folder / name
    path.write_text(text)
    return understand(path)


def rows(write: str, count: int = 20) -> str:
    """Rows by a template with {i} and {s}, seconds of two digits."""
    return "".join(write.format(i=i, s=f"{i:02}", ms=i * 70 % 1000) + "\n" for i in range(count))


ISO = "time,temp,press\n" + rows("2026-11-24T08:00:{s}Z,21.{i},1.5")
AT_THE_END = {
    "sums": (ISO + "Min,20.5,1.4\nMax,22.5,1.6\n", "'Min' and 1 more are no times"),
    "few rows": (
        "Zeit;temp\n" + rows("24.11.2026 08:00:{s};21,{i}", 8) + "Summe;172,0\nMittel;21,5\n",
        "'Summe' and 1",
    ),
    "one wrong time": (ISO + "2026-11-24T99:00:00Z,1.5,1.5\n" + ISO.partition("\n")[2], "'2026-11-24T99:00:00Z' is no"),
    "seconds": ("time,temp,press\n" + rows("17955072{s},21.{i},1.5") + "Total,420,30\n", "'Total' is no time"),
    "a dash of words": (ISO + "end of report,0,0\n", "'end of report' is no time"),
}


@pytest.mark.parametrize("name", AT_THE_END)
def test_times_are_found_above_words_at_the_end_which_are_named(tmp_path: Path, name: str) -> None:
    text, doubt = AT_THE_END[name]
    found = guessed(tmp_path, text)
    assert found.form.time_column == text.partition("\n")[0].replace(";", ",").partition(",")[0]
    assert any(doubt in d for d in found.doubts), found.doubts


def test_seconds_with_signs_between_their_digits_are_times_without_a_doubt(tmp_path: Path) -> None:
    found = guessed(tmp_path, "time,temp\n" + rows('"1,795,507,2{s}",21.5'))
    assert found.form.time_column == "time" and not found.doubts


def test_times_in_two_forms_are_named_by_one_of_each(tmp_path: Path) -> None:
    text = "time;temp\n" + rows("24.11.2026 08:00:{s};21,5\n2026-11-24 08:01:{s};21,6")
    assert any("'2026-11-24 08:01:00' beside '24.11.2026 08:00:00'" in d for d in guessed(tmp_path, text).doubts)


PARTS = {
    "hour without its zero": ("Date;Time;temp\n" + rows("20261124;800{s};21,5"), "column 'Time' ('80000') may be"),
    "parts": ("Year,Month,Day,Hour,temp\n" + rows("2026,11,24,8,21.{i}"), "columns 'Year', 'Month', 'Day' are parts"),
    "parts in French": ("Année;Mois;Jour;T\n" + rows("2026;11;24;21,{i}"), "columns 'Année', 'Mois', 'Jour' are parts"),
    "two parts": ("Jahr;Monat;temp\n" + rows("2026;11;21,{i}"), "columns 'Jahr', 'Monat' are parts of the time"),
    "milliseconds": ("Date,Time,ms,temp\n" + rows("2026-11-24,08:00:{s},{ms},21.5"), "column 'ms' may be the fraction"),
    "microseconds": ("time,Time µs,temp\n" + rows("2026-11-24 08:00:{s},{ms},21.5"), "column 'Time µs' may be the fra"),
    "commas": ("Zeit,temp,press\n" + rows("24.11.2026 08:00:{s},21,5{s},1,600"), "21,50 into 21 and 50"),
}  # fmt: skip


@pytest.mark.parametrize("name", PARTS)
def test_a_time_or_number_that_is_cut_into_columns_is_doubted_by_name(tmp_path: Path, name: str) -> None:
    text, doubt = PARTS[name]
    found = guessed(tmp_path, text)
    assert any(doubt in d for d in found.doubts), found.doubts


@pytest.mark.parametrize(
    ("header", "good", "bad"),
    [
        ("Etiqueta;Fecha;Valor;Calidad", "Bueno", "Malo"),
        ("Segnale;Ora;Valore;Qualità", "buono", "cattivo"),
        ("Voie;Heure;Valeur;Qualité", "bon", "mauvais"),
        ("Kenmerk;Tijd;Waarde;Kwaliteit", "goed", "slecht"),
        ("Was;Wann;Wieviel;Status", "gut", "schlecht"),
    ],
)
def test_a_row_a_value_is_known_in_other_languages(tmp_path: Path, header: str, good: str, bad: str) -> None:
    lines = [f"{t};24.11.2026 08:00:{i:02};{i},5;{bad if i == 3 else good}\n" for i in range(20) for t in ("temp", "p")]
    found = guessed(tmp_path, header + "\n" + "".join(lines))
    tag, when, value, quality = header.split(";")
    form = found.form
    assert (form.tag_column, form.time_column, form.value_column) == (tag, when, value)
    assert form.quality_column == quality and good.casefold() in form.good and found.tags == ["temp", "p"]


def test_quotes_behind_spaces_are_read(tmp_path: Path) -> None:
    text = '"time", "temp", "press"\n' + rows('"2026-11-24T08:00:{s}Z", "21.{i}", "0.500"')
    found = guessed(tmp_path, text)
    assert keys_of(found.form) == {"time_column": "time"} and found.tags == ["temp", "press"] and not found.doubts
    assert first_rows.problems(tmp_path / "d.csv", found.form, found.tags, True) == []


@pytest.mark.parametrize("behind", ["", "'"])
def test_apostrophes_before_every_cell_are_said(tmp_path: Path, behind: str) -> None:
    with pytest.raises(ConfigError, match="its cells begin with an apostrophe: export numbers, not text"):
        guessed(tmp_path, "time;temp\n" + rows(f"'2026-11-24 08:00:{{s}}{behind};'21.{{i}}{behind}"))
    assert guessed(tmp_path, "' made by X\n" + ISO).form.comment == "'"


def test_utf_32_is_refused_by_its_name(tmp_path: Path) -> None:
    (tmp_path / "d.csv").write_bytes(ISO.encode("utf-32"))
    with pytest.raises(ConfigError, match="is UTF-32 text, not a text table; save it as UTF-8"):
        understand(tmp_path / "d.csv")


def test_problems_end_with_one_full_stop(tmp_path: Path) -> None:
    (tmp_path / "d.csv").write_text("a;b\n1;2\n1;2;3\n")
    problems = first_rows.problems(tmp_path / "d.csv", understand(tmp_path / "d.csv").form, ["a"], False)
    assert "the header 2. fedge-agent browse" in problems[-1]


@pytest.mark.parametrize(
    "names",
    [
        ["log_30-Sep-2026", "log_31-Oct-2026", "log_01-Nov-2026", "log_02-Jan-2027"],
        ["log_Sep_30_2026", "log_Oct_31_2026", "log_Nov_01_2026", "log_Jan_02_2027"],
        ["30Sep2026", "31Okt2026", "01Nov2026", "02Jan2027"],
        ["2026 September 30", "2026 Oktober 31", "2026 November 1", "2027 Januar 2"],
    ],
)
def test_dates_with_names_of_months_sort_files(tmp_path: Path, names: list[str]) -> None:
    for name in reversed(names):
        (tmp_path / f"{name}.csv").touch()
    assert [p.stem for p in listing.found(tmp_path / "*.csv")] == names


@pytest.mark.parametrize(
    ("cell", "name", "same"),
    [
        ("2026-11-20T24:00:00Z", "", "2026-11-21T00:00:00Z"),
        ("2026-12-31 24:00", "", "2027-01-01T00:00:00Z"),
        ("31.12.2026 24:00:00", "%d.%m.%Y %H:%M:%S", "2027-01-01T00:00:00Z"),
        ("2026-06-30T23:59:60Z", "", "2026-07-01T00:00:00Z"),
        ("2026-11-24T08:00:60.5+01:00", "", "2026-11-24T07:01:00.5Z"),
    ],
)
def test_end_of_a_day_and_leap_second_are_times(cell: str, name: str, same: str) -> None:
    assert Clock(TableForm(time_format=name)).parse(cell) == times.parse(same, None)


@pytest.mark.parametrize("cell", ["2026-11-20T24:00:01Z", "2026-11-20T24:00:00.1Z", "2026-11-20T08:00:61Z"])
def test_later_than_the_end_of_a_day_is_no_time(cell: str) -> None:
    with pytest.raises(ValueError, match="neither ISO 8601"):
        Clock(TableForm()).parse(cell)
