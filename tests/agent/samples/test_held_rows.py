# SPDX-License-Identifier: Apache-2.0
"""While the file cannot be used, samples, events and labels share one database in memory, which comes to the file."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from fedge_agent.samples import held_rows, label_table
from fedge_agent.samples.event_book import EventBook
from fedge_agent.samples.label_book import LabelBook, Subject
from fedge_agent.samples.sample_table import Sample
from fedge_agent.samples.store import SampleStore
from fedge_agent.samples.tables import SCHEMA, open_tables
from fedge_agent.samples.withholding import FAULT
from fedge_agent.types import Label
from fedge_models.errors import StorageError
from fedge_models.graph.card import Card, Channel, WindowSpec
from fedge_models.system import damage, healing
from support.databases import Disk, locked, rows
from support.events import make_event

S = 10**9
KEY = "gw:m:pump:1"
CARD = Card("classify", (Channel("a"),), WindowSpec(10, 10, 5), ("mean",), ("good", "worn"))


class Site:
    """The three users of the file, as in the agent; no thread runs."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.samples = SampleStore(path, {"m": 1000})
        self.book = EventBook(path, {}, self.samples.tables)
        subject = Subject("m", lambda: CARD)
        self.labels = LabelBook(path, {"pump": subject}, self.samples.count_as_new, None, self.book.tables)

    def stop(self) -> None:
        self.labels.stop()
        self.book.flush()
        self.book.stop()
        self.samples.stop()

    def put(self, *ends: int, numbers: int = 2, y: float | None = None) -> None:
        """One window of each end, each of one second of operation."""
        for end in ends:
            x = np.full(numbers, end, np.float32)
            self.samples.put(Sample("m", "pump", end * S, x, y, False, 0, "", S))
        self.samples.flush()

    def stored(self) -> list[int]:
        """Ends of the windows in the file."""
        return [end // S for (end,) in rows(self.path, "SELECT time_ns FROM samples ORDER BY id")]


@pytest.fixture
def no_folder(tmp_path: Path) -> Path:
    """A path that no file can have until `make_room`: a file is where its folder should be."""
    (tmp_path / "state").write_bytes(b"")
    return tmp_path / "state" / "samples.sqlite"


@pytest.fixture
def make_room(no_folder: Path, tried_at_once: Callable[[], None]) -> Callable[[], None]:
    def make() -> None:
        no_folder.parent.unlink()
        no_folder.parent.mkdir()
        tried_at_once()

    return make


@pytest.fixture
def tried_at_once(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    return lambda: monkeypatch.setattr(healing, "TRY_S", 0.0)


@pytest.fixture
def site(no_folder: Path) -> Iterator[Site]:
    made = Site(no_folder)
    yield made
    made.stop()


@pytest.fixture
def on_disk(tmp_path: Path, disk: Disk) -> Iterator[Site]:
    made = Site(tmp_path / "samples.sqlite")
    yield made
    made.stop()


def other_process(path: Path, do: Callable[[sqlite3.Connection], object]) -> None:
    """What a command writes to the file beside the agent."""
    with closing(sqlite3.connect(path)) as db, db:
        do(db)


def label(end: int) -> Label:
    return Label("pump", (end - 1) * S, end * S, "worn", "hand")


def test_a_machine_learns_in_memory_when_nothing_can_be_stored_at_the_first_start(
    site: Site, make_room: Callable[[], None]
) -> None:
    site.put(*range(1, 31))
    assert site.samples.lost == 0 and site.samples.total == {"m": 30}
    assert len(site.samples.rows("m", (2,), None).x) == 30
    assert site.samples.collected("m", "pump") == (30, 30 * S) and site.samples.covered_ns("m", "pump") == 30 * S
    held = site.samples.held()
    assert held is not None and held["samples"] == 30 and held["bytes"] == held_rows.budget_bytes()
    make_room()
    site.put(31)
    assert site.stored() == list(range(1, 32)) and site.samples.held() is None and site.samples.tables.problem is None
    assert site.samples.lost == 0 and site.samples.total == {"m": 31} and site.samples.covered_ns("m", "pump") == 31 * S
    assert rows(site.path, "SELECT covered_ns FROM baselines") == [(31 * S,)]


def test_events_see_the_samples_in_memory_and_their_windows_are_withheld(
    site: Site, make_room: Callable[[], None]
) -> None:
    site.put(300, 500, 600)
    site.book.begin("pump", KEY, 450 * S)
    site.book.note(make_event(KEY))
    site.book.flush()
    site.book._round()
    assert site.book.status()["withheld"] == {KEY: 2} and site.book.lost == 0
    shown = site.book.held()
    assert shown is not None and [row.key for row in shown.rows] == [KEY] and shown.withheld == {KEY: 2}
    make_room()
    site.book._round()
    assert site.book.held() is None and site.stored() == [300, 500, 600]
    assert rows(site.path, "SELECT key FROM events") == rows(site.path, "SELECT key FROM withheld") == [(KEY,)]


def test_it_comes_to_the_file_also_while_nothing_else_comes(site: Site, make_room: Callable[[], None]) -> None:
    site.put(1, 2)
    make_room()
    site.samples.flush()
    assert site.stored() == [1, 2] and site.samples.held() is None


def test_a_label_is_acknowledged_only_on_disk(site: Site, make_room: Callable[[], None]) -> None:
    site.put(1)
    with pytest.raises(StorageError, match="labels wait until they can be stored"):
        site.labels.put(label(1))
    site.labels.offer(label(1))
    with pytest.raises(StorageError):
        site.labels._round()
    assert site.samples.labels("m") == {"-": 1}
    make_room()
    site.labels._round()
    assert site.samples.labels("m") == {"1": 1} and rows(site.path, "SELECT count(*) FROM labels") == [(1,)]


def test_labels_that_are_known_are_matched_to_samples_in_memory_and_stay_theirs(
    on_disk: Site, disk: Disk, tried_at_once: Callable[[], None]
) -> None:
    on_disk.labels.put(label(5))
    on_disk.put(3)
    disk.fill()
    on_disk.put(5, numbers=5000)
    assert on_disk.samples.tables.in_memory
    on_disk.labels._round()
    assert on_disk.samples.labels("m") == {"-": 1, "1": 1}
    disk.free()
    tried_at_once()
    on_disk.put(6)
    found = rows(on_disk.path, "SELECT time_ns / 1000000000, y, label FROM samples ORDER BY id")
    assert found == [(3, None, 0), (5, 1, 1), (6, None, 0)]


def test_what_another_process_wrote_meanwhile_stays(
    on_disk: Site, disk: Disk, tried_at_once: Callable[[], None]
) -> None:
    on_disk.put(1, 2)
    on_disk.book.begin("pump", KEY, 2 * S)
    on_disk.book.note(make_event(KEY))
    on_disk.book.flush()
    disk.fill()
    on_disk.put(3, numbers=5000)
    on_disk.book.end("pump", 4 * S)
    on_disk.book.flush()
    assert on_disk.samples.tables.in_memory
    disk.free()
    by_hand = EventBook(on_disk.path)
    by_hand.acknowledge(KEY, "anna", "bearing", FAULT)
    by_hand.stop()
    other_process(on_disk.path, lambda db: label_table.insert(db, label(2), 0, 100))
    tried_at_once()
    on_disk.put(4)
    assert on_disk.stored() == [1, 2, 3, 4]
    assert rows(on_disk.path, "SELECT who FROM events") == [("anna",)]
    assert rows(on_disk.path, "SELECT verdict, end_ns FROM withheld") == [(FAULT, 4 * S)]
    assert rows(on_disk.path, "SELECT count(*) FROM labels") == [(1,)]
    assert rows(on_disk.path, "SELECT text FROM event_notes") == [("bearing",)]


def test_baselines_of_a_file_that_could_not_be_read_grow_by_what_was_covered_meanwhile(
    site: Site, make_room: Callable[[], None]
) -> None:
    site.put(101, 102)
    make_room()
    with closing(open_tables(site.path, "before", "EXTRA")) as before, before.transaction() as db:
        db.execute("INSERT INTO baselines VALUES ('m', 'pump', 8, ?)", (60 * S,))
        for end in (1, 2, 3):
            db.execute(
                "INSERT INTO samples (model, asset, time_ns, held, x) VALUES ('m', 'pump', ?, 0, x'00')", (end * S,)
            )
    site.put(103)
    assert rows(site.path, "SELECT covered_ns FROM baselines") == [(63 * S,)]
    assert site.samples.covered_ns("m", "pump") == 63 * S and site.samples.collected("m", "pump")[1] == 63 * S
    assert site.samples.collected("m", "pump")[0] == 6 == site.samples.total["m"]


def test_what_memory_has_no_room_for_is_counted_as_lost(
    site: Site, make_room: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(held_rows, "budget_bytes", lambda: 10 * (8 + held_rows.ROW_BYTES))
    site.put(*range(1, 31))
    assert site.samples.share("m", 2) == 10 and len(site.samples.rows("m", (2,), None).x) == 10
    make_room()
    site.put(31)
    assert site.stored() == list(range(21, 32)) and site.samples.lost == 20


def test_of_a_large_file_the_newest_are_held_and_none_comes_twice(
    on_disk: Site, disk: Disk, tried_at_once: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    on_disk.put(*range(1, 31))
    monkeypatch.setattr(held_rows, "budget_bytes", lambda: 20 * (20000 + held_rows.ROW_BYTES))
    monkeypatch.setattr(held_rows, "ROW_BYTES", 40000)
    disk.fill()
    on_disk.put(31, numbers=5000)
    ends = [int(t // S) for t in on_disk.samples.rows("m", (2,), None).times]
    assert 0 < len(ends) < 30 and ends[-1] == 30 and not on_disk.samples.tables.whole
    disk.free()
    tried_at_once()
    on_disk.put(32)
    assert on_disk.stored() == list(range(1, 33)) and on_disk.samples.lost == 0


def test_a_file_that_is_removed_while_it_runs_is_written_again(on_disk: Site) -> None:
    on_disk.put(*range(1, 11))
    on_disk.book.note(make_event(KEY))
    on_disk.book.flush()
    for file in on_disk.path.parent.glob("samples.sqlite*"):
        file.unlink()
    on_disk.put(11)
    assert on_disk.stored() == list(range(1, 12)) and rows(on_disk.path, "SELECT key FROM events") == [(KEY,)]
    assert rows(on_disk.path, "SELECT covered_ns FROM baselines") == [(11 * S,)]
    assert damage.reports(on_disk.path.parent) == [] and on_disk.samples.lost == 0


def test_pages_that_the_disk_does_not_read_cost_only_themselves(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "file", isolation_level=None)) as file:
        file.executescript(SCHEMA)
        sql = "INSERT INTO samples (model, asset, time_ns, held, x) VALUES ('m', 'pump', ?, 0, ?)"
        file.executemany(sql, [(i * S, bytes(3000)) for i in range(200)])
        file.execute("INSERT INTO shelves VALUES ('pump', 1.0, 1.0, 'anna', '', 0, 1.0)")
        whole = (tmp_path / "file").read_bytes()
    bad = 4096 * (len(whole) // 4096 // 2)
    (tmp_path / "file").write_bytes(whole[:bad] + b"\xff" * 4096 + whole[bad + 4096 :])
    with closing(sqlite3.connect(tmp_path / "file")) as file, closing(sqlite3.connect(":memory:")) as memory:
        memory.isolation_level = None
        memory.executescript(SCHEMA)
        assert not held_rows.fill(file, memory)
        assert memory.execute("SELECT subject FROM shelves").fetchall() == [("pump",)]
        ends = [end // S for (end,) in memory.execute("SELECT time_ns FROM samples ORDER BY id")]
        assert 20 < len(ends) < 200 and ends[-1] == 199


def of_recipes(site: Site) -> list[int]:
    """Ends of the windows that count."""
    return [int(x[0]) for x in site.samples.rows("m", (2,), None).x]


def test_samples_of_another_recipe_do_not_come_back_by_way_of_the_memory(
    on_disk: Site, disk: Disk, tried_at_once: Callable[[], None]
) -> None:
    on_disk.samples.begin("m", b"old")
    on_disk.put(*range(1, 6))
    assert on_disk.samples.begin("m", b"new") == 5
    on_disk.put(6, 7)
    disk.fill()
    on_disk.put(8, numbers=5000)
    assert on_disk.samples.tables.in_memory and of_recipes(on_disk) == [6, 7]
    for file in on_disk.path.parent.glob("samples.sqlite*"):
        file.unlink()  # the disk comes back without it
    disk.free()
    tried_at_once()
    on_disk.put(9)
    assert not on_disk.samples.tables.in_memory and of_recipes(on_disk) == [6, 7, 9]


def test_samples_in_memory_count_where_none_of_the_file_fitted(
    on_disk: Site, disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Their numbers begin again, below those from which on samples of the file count."""
    on_disk.samples.begin("m", b"old")
    on_disk.put(*range(1, 6))
    on_disk.samples.begin("m", b"new")
    monkeypatch.setattr(held_rows, "budget_bytes", lambda: 2 * held_rows.ROW_BYTES)  # half of it for a copy
    disk.fill()
    on_disk.put(6, numbers=5000)
    assert on_disk.samples.tables.in_memory
    on_disk.put(7)
    assert of_recipes(on_disk) == [7]


def test_a_recipe_that_begins_in_memory_holds_in_the_file(
    on_disk: Site, disk: Disk, tried_at_once: Callable[[], None]
) -> None:
    on_disk.samples.begin("m", b"old")
    on_disk.put(*range(1, 6))
    disk.fill()
    on_disk.put(6, numbers=5000)
    assert on_disk.samples.tables.in_memory
    on_disk.samples.begin("m", b"new", {"pump": b"own"})
    on_disk.put(7, 8)
    disk.free()
    tried_at_once()
    on_disk.put(9)
    assert not on_disk.samples.tables.in_memory and of_recipes(on_disk) == [7, 8, 9]
    assert on_disk.samples.begin("m", b"new", {"pump": b"own"}) == 5


@pytest.mark.slow  # waits for the lock
def test_a_recipe_that_could_not_be_looked_up_is_looked_up_before_the_next_sample(on_disk: Site) -> None:
    on_disk.samples.begin("m", b"old")
    on_disk.put(*range(1, 6))
    with locked(on_disk.path), pytest.raises(StorageError):
        on_disk.samples.begin("m", b"new")
    on_disk.put(6)
    assert of_recipes(on_disk) == [6]
