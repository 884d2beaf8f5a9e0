# SPDX-License-Identifier: Apache-2.0
"""Verdicts of inspections: readings of any source, a station's CSV as it grows, malformed ones of both."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fedge_agent.config.schema import Inspection, TagConfig
from fedge_agent.protocols.csv.lines import MAX_LINE
from fedge_agent.samples.inspection import ALWAYS_NS, Mistake, Verdicts
from fedge_agent.samples.label_book import LabelBook, Subject
from fedge_agent.samples.station_files import Station
from fedge_agent.types import Batch, Label, Quality, Reading
from fedge_models.graph.card import Card, Channel, WindowSpec
from fedge_models.system.settings import Seconds
from support.at_end import AtEnd
from support.databases import rows
from support.waiting import until

S = 1_000_000_000
T0 = 1_700_000_000 * S  # 2023-11-14 22:13:20 UTC
CARD = Card("classify", (Channel("a"),), WindowSpec(1, 10, 5), ("mean",), ("ok", "bad"), "ok")
TAGS = {role: TagConfig(source="line", tag=role) for role in ("verdict", "part", "time")}


def batch(*readings: tuple[str, float, object], source: str = "line") -> Batch:
    return Batch(source, [Reading(tag, T0 + round(at * S), value) for tag, at, value in readings], None, 0)  # type: ignore[arg-type]


def test_a_verdict_by_time() -> None:
    look = Verdicts("pump", Inspection(verdict=TAGS["verdict"], tolerance=Seconds(30)))
    assert look.take(batch(("verdict", 5, " bad "), ("part", 5, "x"))) == [
        Label("pump", T0 - 25 * S, T0 + 35 * S, "bad", "inspection")
    ]
    assert look.take(batch(("verdict", 6, "bad"), source="other")) == []


def test_a_verdict_by_part_takes_the_part_of_its_own_message_in_any_order() -> None:
    look = Verdicts(
        "pump", Inspection(verdict=TAGS["verdict"], part=TAGS["part"], part_age=Seconds(100), tolerance=Seconds(1))
    )
    made = look.take(batch(("verdict", 5, "bad"), ("verdict", 7, "ok"), ("part", 7, 4712.0), ("part", 5, 4711.0)))
    assert made == [
        Label("pump", T0 - 95 * S, T0 + 6 * S, "bad", "inspection", "4711"),
        Label("pump", T0 - 93 * S, T0 + 8 * S, "ok", "inspection", "4712"),
    ]
    (late,) = look.take(batch(("verdict", 9, "bad")))  # a message that lacks its part is not of the one before
    assert isinstance(late, Mistake) and "no part id" in late.text


def test_a_verdict_without_its_part_is_of_the_part_last_reported_where_they_never_come_together() -> None:
    look = Verdicts("pump", Inspection(verdict=TAGS["verdict"], part=TAGS["part"], part_age=Seconds(0)))
    look.take(batch(("part", 1, "A1"), ("part", 5, "A2")))
    made = look.take(batch(("verdict", 4, "bad"), ("part", 9, "A3"), ("verdict", 11, "ok")))
    assert [(m.part, m.value) for m in made if isinstance(m, Label)] == [("A2", "bad"), ("A3", "ok")]


@pytest.mark.parametrize("order", [("part", "verdict"), ("verdict", "part")])
def test_verdicts_of_one_second_are_not_mixed_up(order: tuple[str, str]) -> None:
    look = Verdicts("pump", Inspection(verdict=TAGS["verdict"], part=TAGS["part"]))
    messages = [{"part": "A1", "verdict": "bad"}, {"part": "A2", "verdict": "ok"}, {"part": "A3", "verdict": "bad"}]
    made = look.take(batch(*[(role, 5, message[role]) for message in messages for role in order]))
    assert [(m.part, m.value) for m in made if isinstance(m, Label)] == [("A1", "bad"), ("A2", "ok"), ("A3", "bad")]


def test_a_verdict_may_tell_its_time() -> None:
    look = Verdicts("pump", Inspection(verdict=TAGS["verdict"], time=TAGS["time"]))
    made = look.take(batch(("verdict", 900, 1.0), ("time", 900, "2023-11-14T23:13:20+01:00")))
    assert made == [Label("pump", T0, T0, 1.0, "inspection")]


@pytest.mark.parametrize(
    ("readings", "why"),
    [
        ([("verdict", 1, "bad")], "no part id"),
        ([("part", 1, ""), ("verdict", 1, "bad")], "no part id"),
        ([("part", 1, "P" * 200), ("verdict", 1, "bad")], "no part id"),
        ([("part", 1, float("nan")), ("verdict", 1, "bad")], "no part id"),
        ([("part", 1, np.zeros(3)), ("verdict", 1, "bad")], "of 'a ndarray': no part id"),
        ([("part", 1, "A\n1"), ("verdict", 1, "bad")], "no part id"),
        ([("part", 1, "A1"), ("verdict", 1, "bad")], "time None is no time"),
        ([("part", 1, "A1"), ("time", 1, "yesterday"), ("verdict", 1, "bad")], "'yesterday' is no time"),
        ([("part", 1, "A1"), ("time", 1, -1.0), ("verdict", 1, "bad")], "-1.0 is no time"),
        ([("part", 1, "A1"), ("time", 1, 1.7e9), ("verdict", 1, np.zeros(3))], "expected a name or a number"),
    ],
)
def test_malformed_readings_are_mistakes_in_words(readings: list[tuple[str, float, object]], why: str) -> None:
    look = Verdicts("pump", Inspection(verdict=TAGS["verdict"], part=TAGS["part"], time=TAGS["time"]))
    (made,) = look.take(batch(*readings))
    assert isinstance(made, Mistake) and why in made.text
    good = look.take(batch(("part", 2, "A2"), ("time", 2, 1.7e9), ("verdict", 2, "ok")))
    assert good == [Label("pump", T0 - 7 * 86400 * S, T0, "ok", "inspection", "A2")]


def test_a_reading_of_bad_quality_is_no_verdict() -> None:
    look = Verdicts("pump", Inspection(verdict=TAGS["verdict"]))
    assert look.take(Batch("line", [Reading("verdict", T0, "bad", Quality.BAD)], None, 0)) == []


class Line:
    """A station's file and the book its verdicts go to."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "station.csv"
        self.folder = folder
        self.open(Inspection(path=self.path, part_column="part"))

    def open(self, config: Inspection) -> None:
        self.book = LabelBook(self.folder / "samples.sqlite", {"pump": Subject("m", lambda: CARD)}, lambda *_: None)
        self.station = Station("pump", config, self.folder)

    def add(self, text: str) -> None:
        with self.path.open("a", newline="") as file:
            file.write(text)

    def parts(self) -> list[tuple[str, str]]:
        """Follow; the parts and verdicts known then, in the order in which they came."""
        self.station.follow(self.book)
        return rows(self.folder / "samples.sqlite", "SELECT part, value FROM labels ORDER BY id")


@pytest.fixture
def line(tmp_path: Path) -> Iterator[Line]:
    made = Line(tmp_path)
    yield made
    made.station.close()
    made.book.stop()


def test_a_file_is_followed_as_it_grows_and_after_a_restart(line: Line) -> None:
    assert line.parts() == [] and "cannot be read: No such file" in line.book.status()["pump"]["problem"]
    line.add("time,part,verdict\n")
    assert line.parts() == [] and line.book.status()["pump"]["problem"] is None
    line.add("1700000000,A1,ok\n1700000001,A2,ba")
    assert line.parts() == [("A1", "ok")]  # half a line waits for its end
    line.add("d\n")
    assert line.parts() == [("A1", "ok"), ("A2", "bad")]
    line.station.close()
    line.book.stop()
    line.open(Inspection(path=line.path, part_column="part"))
    line.add("1700000002,A3,ok\n")
    assert line.parts() == [("A1", "ok"), ("A2", "bad"), ("A3", "ok")]


@pytest.mark.parametrize("stopped", [False, True])
@pytest.mark.parametrize("moved", ["station.csv.1", "station-2023-11-14.csv", "gone"])
def test_nothing_is_missed_when_the_file_is_rotated(line: Line, moved: str, stopped: bool) -> None:
    line.add("time,part,verdict\n1700000000,A1,ok\n")
    assert len(line.parts()) == 1
    line.add("1700000001,A2,bad\n1700000002,A3,ok")  # of this no line end will ever come
    if stopped:
        line.station.close()
    line.path.replace(line.folder / moved)
    line.add("time,part,verdict\n1700000003,A4,ok\n")
    line.parts()
    rest = [] if moved == "gone" and stopped else ["A2", "A3"]  # under another name nobody would look
    assert [p for p, _ in line.parts()] == ["A1", *rest, "A4"]
    line.add("1700000004,A5,ok\n")
    assert line.parts()[-1] == ("A5", "ok")


def test_a_file_that_is_rewritten_in_place(line: Line) -> None:
    line.add("time,part,verdict\n1700000000,A1,ok\n1700000001,A2,ok\n")
    line.parts()
    line.path.write_text("part;verdict;time\nB1;bad;1700000005\n")  # with other columns, too
    assert line.parts() == [("A1", "ok"), ("A2", "ok"), ("B1", "bad")]


def test_only_the_rows_of_the_machine(line: Line) -> None:
    line.station = Station(
        "pump", Inspection(path=line.path, part_column="part", only={"station": "4", "op": "20"}), line.folder
    )
    line.add(
        "time;station;op;part;verdict\r\n1700000000;4;20;A1;ok\r\n1700000000;4;30;A2;ok\r\n1700000000;5;20;A3;ok\r\n"
    )
    assert line.parts() == [("A1", "ok")]


def test_times_of_a_zone(line: Line) -> None:
    line.station = Station(
        "pump", Inspection(path=line.path, time_zone="Europe/Berlin", tolerance=Seconds(0)), line.folder
    )
    line.add("time,verdict\n2023-11-14 23:13:20,ok\n2023-11-14 23:13:20Z,bad\n")
    line.parts()
    assert rows(line.folder / "samples.sqlite", "SELECT end_ns FROM labels") == [(T0,), (T0 + 3600 * S,)]


def test_parts_without_times(line: Line) -> None:
    line.station = Station("pump", Inspection(path=line.path, part_column="part", time_column=""), line.folder)
    line.add("part,verdict\nA1,ok\n")
    assert line.parts() == [("A1", "ok")]
    assert rows(line.folder / "samples.sqlite", "SELECT start_ns, end_ns FROM labels") == [(0, ALWAYS_NS)]


@pytest.mark.parametrize(
    ("row", "why"),
    [
        ("1700000000,A1", "has 2 cells, expected at least 3"),
        ("soon,A1,ok", "neither ISO 8601 nor Unix seconds"),
        (",A1,ok", "neither ISO 8601 nor Unix seconds"),
        ("1700000000,,ok", "nothing in column 'part'"),
        ("1700000000,A1,", "nothing in column 'verdict'"),
        (f"1700000000,{'P' * 500},ok", "printed characters"),
        (f"1700000000,A1,{'o' * 500}", "printed characters"),
        ("1700000000,A1\0,ok", "not CSV: it contains a NUL byte"),
        ("\0" * 4096 + "1700000000,A1,ok", "not CSV: it contains a NUL byte"),
        ('1700000000,"A1,ok', "not CSV"),
        ('1700000000,"A"1,ok', "not CSV"),
        ("1700000000,A1\r9,ok", "not CSV"),
        (f"1700000000,{'P' * 200_000},ok", "PPPP"),
        ("2100-01-01T00:00:00Z,A1,ok", "would be 2100-01-01 00:00:00 UTC, which is out of range"),
        ("4102444800,A1,ok", "would be 2100-01-01 00:00:00; expected 2000 to "),
        ("\x1b[2J,\x07,\x07", "neither ISO 8601"),
        ("x" * MAX_LINE, "lines of more than"),
    ],
    ids=lambda v: v[:20],
)
def test_malformed_rows_are_counted_and_the_next_is_read(line: Line, row: str, why: str) -> None:
    line.add(f"time,part,verdict\n{row}\n\n1700000009,B1,bad\n")
    line.parts()
    assert line.parts() == [("B1", "bad")]
    shown = line.book.status()["pump"]
    assert shown["malformed"] >= 1 and why in shown["examples"]["malformed"]


@pytest.mark.parametrize(
    ("header", "why"),
    [
        ("time,part,verdikt", "has no column 'verdict'; did you mean 'verdikt'?"),
        ("a,b,c", "has no column 'verdict'; expected one of: a, b, c"),
        ("", "has no column 'verdict'"),
        ("\x00\x01\x02", "its first line is not CSV"),
        ("time,part\0,verdict", "its first line is not CSV"),
        ("verdict,ti\rme,part", "its first line is not CSV: it contains a carriage return"),
        (f"time,part,verdict,{'x' * 200_000}", "its first line is not CSV"),
    ],
    ids=lambda v: v[:20],
)
def test_a_header_that_does_not_fit_is_reported_and_heals(line: Line, header: str, why: str) -> None:
    line.add(f"{header}\n1700000000,A1,ok\n")
    assert line.parts() == [] and why in line.book.status()["pump"]["problem"]
    assert why in line.station.check()[0]
    line.path.write_text("time,part,verdict\n1700000000,A1,ok\n")
    assert line.station.check() == []
    assert line.parts() == [("A1", "ok")] and line.book.status()["pump"]["problem"] is None


def test_bytes_that_are_no_text_are_counted(line: Line) -> None:
    line.path.write_bytes(b"time,part,verdict\n\xff\xfe\x00,A\xe4,ok\n1700000009,B1,bad\n")
    assert line.parts() == [("B1", "bad")]
    assert line.book.status()["pump"]["malformed"] == 1


def test_file_without_any_line_end_is_a_problem(line: Line) -> None:
    line.add("x" * MAX_LINE)
    assert line.parts() == [] and f"more than {MAX_LINE} bytes" in line.book.status()["pump"]["problem"]
    line.path.write_text("time,part,verdict\n1700000000,A1,ok\n")
    assert line.parts() == [("A1", "ok")] and line.book.status()["pump"]["problem"] is None


def test_a_station_whose_header_is_damaged_stops_no_other(at_end: AtEnd, tmp_path: Path) -> None:
    subject = Subject("m", lambda: CARD)
    book = at_end(LabelBook(tmp_path / "samples.sqlite", {"pump": subject, "fan": subject}, lambda *_: None))
    stations = []
    for name, header in (("pump", "verdict,ti\rme,part"), ("fan", "verdict,time,part")):
        path = tmp_path / f"{name}.csv"
        path.write_bytes(f"{header}\nok,1700000000,A1\n".encode())
        stations.append(Station(name, Inspection(path=path, part_column="part"), tmp_path))
    for station in stations:
        station.follow(book)
        station.close()
    shown = book.status()
    assert "its first line is not CSV" in shown["pump"]["problem"] and shown["fan"]["problem"] is None
    assert rows(tmp_path / "samples.sqlite", "SELECT asset, part FROM labels") == [("fan", "A1")]
    book.stop()


def test_a_folder_is_no_file(line: Line) -> None:
    line.path.mkdir()
    assert line.parts() == [] and "cannot be read" in line.book.status()["pump"]["problem"]


class Broken(Station):
    """A follower with a defect: it fails in an unforeseen way so many times."""

    faults = 2

    def follow(self, book: LabelBook) -> None:
        if self.faults:
            self.faults -= 1
            raise ZeroDivisionError("a defect")
        super().follow(book)


def test_a_follower_with_a_defect_stops_no_other_and_heals(at_end: AtEnd, tmp_path: Path) -> None:
    subject = Subject("m", lambda: CARD)
    book = at_end(LabelBook(tmp_path / "samples.sqlite", {"pump": subject, "fan": subject}, lambda *_: None))
    stations = []
    for name, kind in (("pump", Broken), ("fan", Station)):
        (tmp_path / f"{name}.csv").write_bytes(b"verdict,time,part\nok,1700000000,A1\n")
        stations.append(kind(name, Inspection(path=tmp_path / f"{name}.csv", part_column="part"), tmp_path))
    book.follow(stations)
    book.start()
    until(lambda: book.status()["fan"]["labels"] == 1, "the label of the other asset")
    assert "unexpected ZeroDivisionError: a defect; see the log" in str(book.status()["pump"]["problem"])
    assert book.status()["fan"]["problem"] is None
    until(lambda: book.status()["pump"]["labels"] == 1, "the label once the defect is over")
    until(lambda: book.status()["pump"]["problem"] is None, "the problem is withdrawn after its labels are put")
    assert book.problem is None


def test_check_reads_the_first_rows_of_a_station_in_its_form(tmp_path: Path) -> None:
    path = tmp_path / "s.csv"
    path.write_text("Prüfung;;\nErgebnis;Zeit;Teil\n" + "i.O.;24.11.2026 08:00:00;A1\n" * 5 + "x\n", "cp1252")
    keys: dict[str, Any] = {"path": path, "verdict_column": "Ergebnis", "part_column": "Teil", "time_column": "Zeit"}
    keys |= {"skip_rows": 1, "encoding": "cp1252"}
    found = Station("pump", Inspection(**keys), tmp_path).check()
    assert "6 of the first 6 rows cannot be read: row 3: " in found[0] and "'24.11.2026 08:00:00'" in found[0]
    keys |= {"time_format": "%d.%m.%Y %H:%M:%S", "time_zone": "Europe/Berlin"}
    assert Station("pump", Inspection(**keys), tmp_path).check() == []  # one malformed row stops nothing
    path.write_text("Ergebnis;Zeit\n")
    assert "has no column 'Teil'" in Station("pump", Inspection(**keys | {"skip_rows": 0}), tmp_path).check()[0]


def ok_rows(count: int = 20, verdict: str = "ok", station: str = "4") -> str:
    return "time,verdict,st\n" + "".join(f"{1_700_000_000 + i},{verdict},{station}\n" for i in range(count))


UNUSABLE: dict[str, tuple[str, dict[str, Any], str]] = {
    "no verdict is known": (ok_rows(verdict="i.O."), {}, "knows none of the verdicts in the first 20 rows, e.g. row 2"),
    "another machine": (ok_rows(), {"only": {"st": "5"}}, "column 'st': none of the first 20 rows has '5' (only)"),
    "a number written otherwise": (ok_rows(2), {"only": {"st": "04"}}, "has '04' (only); there is: '4'"),
    "another encoding": (ok_rows(verdict="schl\udcf6cht"), {}, "lines with bytes that are not utf-8: "),
    "times to come": (
        "time,verdict\n" + "2027-12-01T00:00:00Z,ok\n" * 20, {}, "row 2: it begins 2027-12-01 00:00:00 UTC, which"
    ),
}  # fmt: skip


@pytest.mark.parametrize(("text", "keys", "words"), UNUSABLE.values(), ids=UNUSABLE)
def test_check_says_when_nothing_of_a_station_can_be_used(
    tmp_path: Path, text: str, keys: dict[str, Any], words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("time.time_ns", lambda: 1_796_000_000 * S)  # 2026-11-30
    monkeypatch.setattr("time.time", lambda: 1_796_000_000.0)
    path = tmp_path / "s.csv"
    path.write_bytes(text.encode(errors="surrogateescape"))
    assert words in Station("pump", Inspection(path=path, **keys), tmp_path).check(lambda v: v in ("ok", "bad"))[0]


def test_check_takes_what_can_be_used_of_a_station(tmp_path: Path) -> None:
    path = tmp_path / "s.csv"
    for text, only in ((ok_rows(), {}), (ok_rows(2), {"st": "5"}), (ok_rows(), {"st": "4"})):
        path.write_text(text)
        assert Station("pump", Inspection(path=path, only=only), tmp_path).check(lambda v: v == "ok") == []
    path.write_text("")
    station = Station("pump", Inspection(path=path), tmp_path)
    assert station.check() == [] and "is empty yet" in station.remark


def test_rows_of_other_machines_are_counted_and_none_of_its_own_in_many_is_a_problem(line: Line) -> None:
    line.station = Station("pump", Inspection(path=line.path, only={"st": "04"}), line.folder)
    line.add(ok_rows(999))
    line.parts()
    status = line.book.status()["pump"]
    assert status["skipped"] == 999 and status["problem"] is None
    line.add(ok_rows(1).partition("\n")[2])
    line.parts()
    assert (
        "none of the last 1,000 rows is of this machine: only = {'st': '04'}" in line.book.status()["pump"]["problem"]
    )
    line.add("1700000000,ok,04\n")
    line.parts()
    assert line.book.status()["pump"]["problem"] is None


def test_a_row_with_odd_bytes_is_counted_once_and_used(line: Line) -> None:
    line.station = Station("pump", Inspection(path=line.path, part_column="part"), line.folder)
    line.path.write_bytes(b"time,verdict,part,by\n1700000000,ok,A1,M\xfcller\n1700000000,ok,A2,Meier\n")
    assert line.parts() == [("A1", "ok"), ("A2", "ok")]
    assert line.book.status()["pump"]["malformed"] == 1
    assert "bytes that are not of its encoding" in line.book.status()["pump"]["examples"]["malformed"]


def test_station_is_followed_in_its_form(line: Line) -> None:
    keys: dict[str, Any] = {"path": line.path, "part_column": "Teil", "verdict_column": "Ergebnis", "skip_rows": 1}
    keys |= {"time_column": "Zeit", "time_format": "%d.%m.%Y %H:%M:%S", "time_zone": "Europe/Berlin"}
    line.station = Station("pump", Inspection(**keys), line.folder)
    line.path.write_bytes("Prüfung\t\t\nErgebnis\tZeit\tTeil\nn.i.O.\t14.11.2023 23:13:20\tA1\n".encode("utf-16"))
    assert line.parts() == [("A1", "n.i.O.")] and line.book.status()["pump"]["malformed"] == 0
