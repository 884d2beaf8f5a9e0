# SPDX-License-Identifier: Apache-2.0
"""Labels that come late: joined by time or part, whom a sample believes, what is counted, what survives."""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fedge_agent.config.schema import LabelConfig, Training
from fedge_agent.learning.schedule import Schedule
from fedge_agent.samples import label_book as labelling
from fedge_agent.samples.label_book import STRANGER, LabelBook, Subject
from fedge_agent.samples.label_values import RANKS, target_value
from fedge_agent.samples.sample_table import Sample
from fedge_agent.samples.store import SampleStore
from fedge_agent.samples.tag_labels import LASTS
from fedge_agent.types import Label
from fedge_models.errors import StorageError
from fedge_models.graph.card import Card, Channel, Target, WindowSpec
from fedge_models.system.settings import Seconds
from support.databases import Disk, change, rows
from support.sqlite_work import counted

S = 1_000_000_000
T0 = 1_700_000_000 * S
WINDOW = WindowSpec(1, 10, 5)
CLASSIFY = Card("classify", (Channel("a"),), WINDOW, ("mean",), ("ok", "worn", "broken"), "ok")
ANOMALY = Card("anomaly", (Channel("a"),), WINDOW, ("mean",))
REGRESS = Card("regress", (Channel("a"),), WINDOW, ("mean",), targets=(Target("life", "h", low=0, high=100),))
TWO = Card("regress", (Channel("a"),), WINDOW, ("mean",), targets=(Target("life", "h"), Target("heat", "K")))


class Plant:
    """A sample store and its label book. No thread runs: `look` does one round of its work."""

    def __init__(self, folder: Path, card: Card | None = CLASSIFY, label: LabelConfig | None = None) -> None:
        self.path, self.card = folder / "samples.sqlite", card
        self.subjects = {n: Subject("m", lambda: self.card, label) for n in ("pump", "fan")}
        self.open()

    def open(self) -> None:
        if hasattr(self, "samples"):
            self.close()
        self.samples = SampleStore(self.path, {"m": 100_000})
        self.book = LabelBook(self.path, self.subjects, self.samples.count_as_new)

    def close(self) -> None:
        self.book.stop()
        self.samples.stop()

    def again(self) -> None:
        """The same after a restart."""
        self.open()

    def windows(self, *ends: float, y: float | None = None, part: str = "", asset: str = "pump") -> None:
        """Windows of ten seconds that end so many seconds after T0."""
        x = np.zeros(1, np.float32)
        for end in ends:
            self.samples.put(Sample("m", asset, T0 + round(end * S), x, y, False, 10 * S, part))
        self.samples.flush()

    def put(self, value: str | float, start: float, end: float, origin: str = "hand", part: str = "") -> None:
        self.book.put(Label("pump", T0 + round(start * S), T0 + round(end * S), value, origin, part))

    def look(self) -> None:
        self.book.match_new()

    def taught(self, asset: str = "pump") -> list[float | None]:
        """What each sample of the asset is taught with, in the order of time."""
        return [y for (y,) in rows(self.path, "SELECT y FROM samples WHERE asset = ? ORDER BY time_ns", asset)]

    def shown(self, asset: str = "pump") -> dict[str, Any]:
        found: dict[str, Any] = self.book.status()[asset]
        return found


@pytest.fixture
def plant(tmp_path: Path) -> Iterator[Plant]:
    made = Plant(tmp_path)
    yield made
    made.close()


def test_a_label_is_of_the_windows_in_its_span_whichever_came_first(plant: Plant) -> None:
    plant.windows(0, 10, 20)
    plant.windows(10, asset="fan")
    plant.put("worn", 0, 30)
    plant.look()
    assert plant.taught() == [None, 1, 1] and plant.taught("fan") == [None]
    plant.windows(30, 40)
    plant.look()
    assert plant.taught() == [None, 1, 1, 1, None]
    shown = plant.shown()
    assert (shown["labels"], shown["relabelled"], shown["waiting"], shown["unmatched"]) == (1, 3, 0, 0)


@pytest.mark.parametrize(
    ("start", "end", "hit"),
    [
        (10, 20, [20]),  # exactly one window
        (11, 21, []),  # a second late for one, and eight early for the next
        (9, 20.5, [20]),
        (13, 14, [20]),  # shorter than a window: the one it lies in
        (15, 15, [20]),  # a moment
        (10, 10, [10]),  # a moment on the edge of two: the one that ends there
        (10, 13, [20]),  # from there on
        (7, 10, [10]),
        (19, 21, []),  # lies in no window, and no window in it
        (0, 30, [10, 20, 30]),
        (100, 200, []),
    ],
)
def test_which_windows_a_span_is_of(plant: Plant, start: float, end: float, hit: Sequence[float]) -> None:
    plant.windows(0, 10, 20, 30)
    plant.put("worn", start, end)
    plant.look()
    assert plant.taught() == [1 if e in hit else None for e in (0, 10, 20, 30)]


def test_a_moment_is_of_every_window_that_overlaps_it_and_of_one_row_of_a_table(plant: Plant) -> None:
    plant.windows(10, 15, 20, 25)  # of ten seconds, one every five
    plant.put("worn", 15, 15)
    plant.look()
    assert plant.taught() == [None, 1, 1, None]
    x = np.zeros(1, np.float32)
    for at in range(5):
        plant.samples.put(Sample("m", "fan", T0 + at * S, x, None, False, S))  # rows of a table
    plant.samples.put(Sample("m", "fan", T0 + 9 * S, x, None, False, 0))  # a picture
    plant.samples.flush()
    for at, value in ((1, "worn"), (2, "ok"), (9, "broken")):
        plant.book.put(Label("fan", T0 + at * S, T0 + at * S, value, "inspection"))
    assert plant.book.count_matching(Label("fan", T0 + S, T0 + S, "worn", "hand")) == 1
    plant.look()
    assert plant.taught("fan") == [None, 1, 0, None, None, 2]
    assert plant.shown("fan")["contradictory"] == 0 and plant.shown("fan")["relabelled"] == 3


def test_a_verdict_on_a_part_is_of_its_windows_and_of_no_other_part(plant: Plant) -> None:
    plant.windows(0, 10, part="A1")
    plant.windows(20, 30, part="A2")
    plant.windows(90_000, part="A1")  # the counter began again
    plant.put("broken", -100, 5000, "inspection", part="A1")
    plant.put("broken", -100, 5000, "inspection", part="' OR 1=1 --")
    plant.look()
    assert plant.taught() == [2, 2, None, None, None]
    assert plant.shown()["unmatched"] == 1 and "OR 1=1" in plant.shown()["examples"]["unmatched"]


@pytest.mark.parametrize("order", list(itertools.permutations(["plc", "mes", "inspection", "hand"])), ids="-".join)
def test_whom_a_sample_believes_does_not_depend_on_the_order(tmp_path: Path, order: Sequence[str]) -> None:
    plant, says = Plant(tmp_path), {"plc": "ok", "mes": "worn", "inspection": "ok", "hand": "broken"}
    plant.windows(10)
    for origin in order:
        plant.put(says[origin], 0, 20, origin)
        plant.look()
    assert plant.taught() == [2]
    plant.put("ok", 0, 20, "hand")  # of the same origin the last
    plant.look()
    assert plant.taught() == [0]
    plant.windows(12)  # all labels at once, to a sample that comes after them
    plant.look()
    assert plant.taught() == [0, 0]
    plant.close()


def test_contradictions_are_counted_with_the_last_example(plant: Plant) -> None:
    plant.windows(10, 20, y=0)  # the PLC labelled them ok
    plant.put("worn", 0, 20, "inspection")
    plant.look()
    assert plant.shown()["contradictory"] == 2
    contradictory = plant.shown()["examples"]["contradictory"]
    assert (
        "inspection says 'worn'" in contradictory
        and "plc said 'ok' of the window that ends 2023-11-14 22:13:40" in contradictory
    )
    plant.put("ok", 0, 10, "mes")  # believed less: the sample keeps its label
    plant.look()
    assert plant.taught() == [1, 1] and plant.shown()["contradictory"] == 3
    plant.put("worn", 10, 20, "hand")  # agrees
    plant.look()
    assert plant.shown()["contradictory"] == 3


def test_the_same_label_again_changes_nothing_and_a_corrected_one_does(plant: Plant) -> None:
    plant.windows(10)
    for _ in range(3):
        plant.put("worn", 0, 10, "mes")
        plant.look()
    assert plant.shown()["labels"] == 1 and plant.shown()["relabelled"] == 1
    for value in ("broken", "worn"):
        plant.put(value, 0, 10, "mes")
        plant.look()
    assert plant.taught() == [1] and plant.shown()["labels"] == 3


def test_after_a_restart_everything_is_joined_again_and_nothing_is_new(plant: Plant) -> None:
    plant.windows(10, 20, 30)
    plant.put("worn", 0, 30)
    plant.put("ok", 0, 20)
    plant.look()
    plant.again()
    plant.look()
    assert plant.taught() == [0, 0, 1] and plant.samples.total["m"] == 3
    change(plant.path, "UPDATE samples SET y = NULL, origin = 0, label = 0")  # as a power cut may leave it
    plant.again()
    plant.look()
    assert plant.taught() == [0, 0, 1]


def test_relabelled_samples_make_training_due(plant: Plant) -> None:
    schedule = Schedule(Training(interval=Seconds(1e9), min_samples=2, new_samples=4))
    plant.windows(*range(10, 110, 10))
    schedule.trained(1, plant.samples.total["m"], 0)
    assert not schedule.due(2, 10, plant.samples.total["m"], 1)
    plant.put("worn", 0, 40)
    plant.look()
    assert schedule.due(2, 10, plant.samples.total["m"], 1)
    total = plant.samples.total["m"]
    plant.put("worn", 0, 40, "mes")  # teaches nothing new
    plant.look()
    assert plant.samples.total["m"] == total


def test_labels_wait_for_their_samples_and_then_for_nothing(plant: Plant) -> None:
    plant.windows(0)
    plant.put("worn", 100, 200)
    plant.look()
    assert (plant.shown()["waiting"], plant.shown()["unmatched"]) == (1, 0)
    plant.windows(300)  # the span has passed without a sample
    plant.look()
    assert (plant.shown()["waiting"], plant.shown()["unmatched"]) == (0, 1)
    assert "hand says 'worn' of 2023-11-14 22:15:00 to" in plant.shown()["examples"]["unmatched"]
    plant.windows(150)  # which the source delivers after all
    plant.look()
    assert plant.shown()["unmatched"] == 0 and plant.taught() == [None, 1, None]


def test_labels_wait_for_the_model(tmp_path: Path) -> None:
    plant = Plant(tmp_path, card=None)
    plant.windows(10)
    plant.put("worn", 0, 10)
    plant.look()
    assert plant.taught() == [None]
    plant.card = CLASSIFY
    plant.look()
    assert plant.taught() == [1]
    plant.close()


def test_unknown_names_are_a_problem_while_they_last_even_without_any_window(plant: Plant) -> None:
    for i in range(LASTS):
        plant.put("wornn", i, i + 1, "inspection")
    plant.look()
    shown = plant.shown()
    assert shown["unknown"] == LASTS
    assert shown["problem"].startswith(f"the last {LASTS} were ones that the model does not know: inspection says 'wor")
    assert "expected one of ok, worn, broken" in shown["problem"]
    plant.put("worn", 20, 21, "inspection")
    plant.look()
    assert plant.shown()["problem"] is None


def test_an_unknown_name_is_reported_and_joined_once_the_map_knows_it(plant: Plant) -> None:
    plant.windows(10)
    plant.put("NFF", 0, 10, "mes")
    plant.look()
    plant.windows(11)
    plant.look()
    shown = plant.shown()
    assert shown["unknown"] == 1 and (shown["waiting"], shown["unmatched"]) == (0, 0)
    assert "'NFF'" in shown["examples"]["unknown"] and "ok, worn, broken" in shown["examples"]["unknown"]
    plant.subjects["pump"] = Subject("m", lambda: CLASSIFY, LabelConfig(map={"NFF": "ok"}))
    plant.again()
    plant.look()
    assert plant.taught() == [0, None] and plant.shown()["unknown"] == 0


MALFORMED = [
    (Label("pump", T0, T0 - 1, "ok", "hand"), "ends before it begins"),
    (Label("pump", -5, T0, "ok", "hand"), "before 1970"),
    (Label("pump", T0, 1 << 63, "ok", "hand"), "ends before it begins"),
    (Label("pump", 1 << 70, 1 << 71, "ok", "hand"), "ends before it begins"),
    (Label("pump", T0, T0, "", "hand"), "value ''"),
    (Label("pump", T0, T0, "   ", "hand"), "value '   '"),
    (Label("pump", T0, T0, "o" * 200, "hand"), "printed characters"),
    (Label("pump", T0, T0, "o\nk", "hand"), "printed characters"),
    (Label("pump", T0, T0, "o\0k", "hand"), "printed characters"),
    (Label("pump", T0, T0, float("nan"), "hand"), "value nan"),
    (Label("pump", T0, T0, float("inf"), "hand"), "value inf"),
    (Label("pump", T0, T0, True, "hand"), "value True"),
    (Label("pump", T0, T0, None, "hand"), "value None"),  # type: ignore[arg-type]
    (Label("pump", T0, T0, ["ok"], "hand"), r"value ['ok']"),  # type: ignore[arg-type]
    (Label("pump", T0, T0, "ok", "rumour"), "expected one of plc, mes, inspection, hand"),
    (Label("pump", T0, T0, "ok", "hand", "P" * 1000), "part 'PPP"),
    (Label("pump", T0, T0, "ok", "hand", "\x1b[31m"), "part"),
    (Label("pump", time.time_ns() + 90_000 * S, time.time_ns() + 90_001 * S, "ok", "hand"), "more than a day ahead"),
]


@pytest.mark.parametrize(("label", "why"), MALFORMED, ids=lambda v: v if isinstance(v, str) else "")
def test_malformed_labels_are_counted_reported_and_stop_nothing(plant: Plant, label: Label, why: str) -> None:
    plant.windows(10)
    good = Label("pump", T0, T0 + 10 * S, "worn", "hand")
    plant.book.put_all([label, good, label])
    plant.look()
    shown = plant.shown()
    assert shown["malformed"] == 2 and why in shown["examples"]["malformed"]
    assert shown["labels"] == 1 and plant.taught() == [1]


@pytest.mark.parametrize("known", [False, True])
def test_a_clock_that_does_not_know_the_year_refuses_no_label(
    plant: Plant, monkeypatch: pytest.MonkeyPatch, known: bool
) -> None:
    monkeypatch.setattr(time, "time_ns", lambda: 100 * S)
    if known:
        plant.windows(10)
    plant.book.put_all([Label("pump", T0, T0 + 10 * S, "worn", "hand"), Label("pump", 0, 10 * S, "worn", "hand")])
    ahead = Label("pump", T0 + 90_000 * S, T0 + 90_001 * S, "worn", "hand")
    plant.book.put(ahead)  # more than a day ahead of the newest sample, if there is one
    assert (plant.shown()["malformed"], plant.shown()["labels"]) == ((1, 2) if known else (0, 3))


@pytest.mark.parametrize("set_by", [-400 * 86_400, 0, 86_000, 400 * 86_400])
def test_a_label_that_waits_is_named_after_a_day_also_when_the_clock_was_set(
    plant: Plant, monkeypatch: pytest.MonkeyPatch, set_by: int
) -> None:
    plant.windows(0)
    plant.put("worn", 100, 200)
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + set_by)
    plant.look()
    waits = 0 <= set_by < 86_400
    assert (plant.shown()["waiting"], plant.shown()["unmatched"]) == (int(waits), int(not waits))


def test_hostile_text_is_only_text(plant: Plant) -> None:
    plant.windows(10, part="x'); DROP TABLE samples; --")
    plant.put("'; DELETE FROM labels; --", 0, 10)
    plant.put("worn", 0, 10, part="x'); DROP TABLE samples; --")
    plant.put("ok", 0, 10, part="%")  # no pattern either
    plant.look()
    assert plant.taught() == [1] and plant.shown()["labels"] == 3 and plant.shown()["unknown"] == 1


def test_labels_of_other_machines_are_counted_apart(plant: Plant) -> None:
    plant.book.put(Label("press", T0, T0, "ok", "mes"))
    assert plant.book.status()[STRANGER]["malformed"] == 1
    assert "press" in plant.book.status()[STRANGER]["examples"]["malformed"]


@pytest.mark.parametrize(
    ("card", "value", "taught"),
    [
        (CLASSIFY, "worn", 1), (CLASSIFY, 2.0, 2), (CLASSIFY, "2", 2), (CLASSIFY, 3.0, None), (CLASSIFY, -1, None),
        (CLASSIFY, 0.5, None), (CLASSIFY, "OK", 0), (CLASSIFY, "n.i.O.", 2), (CLASSIFY, "", None),
        (ANOMALY, "normal", 0), (ANOMALY, "anomaly", 1), (ANOMALY, 0.0, 0), (ANOMALY, 7.0, 1), (ANOMALY, "1", 1),
        (ANOMALY, "worn", None), (ANOMALY, "nan", None), (ANOMALY, "9" * 400, None),
        (REGRESS, 41.5, 41.5), (REGRESS, "41.5", 41.5), (REGRESS, "inf", None), (REGRESS, "soon", None),
        (TWO, 41.5, None),
    ],
)  # fmt: skip
def test_what_a_value_means_to_a_model(card: Card, value: str | float, taught: float | None) -> None:
    assert target_value(value, card, {"n.i.O.": "broken"}) == taught


def test_samples_that_wait_too_long_for_their_label_go(tmp_path: Path) -> None:
    plant = Plant(tmp_path, label=LabelConfig(late=Seconds(100)))
    plant.windows(0, 10, 150)
    plant.windows(5, y=1)
    plant.look()
    assert plant.taught() == [1, None] and plant.shown()["expired"] == 2
    plant.close()


def test_the_oldest_labels_go_beyond_the_bound(plant: Plant, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(labelling, "MAX_LABELS", 5)
    for i in range(12):
        plant.put("worn", 10 * i, 10 * i + 1)
    assert plant.shown()["labels"] == 5
    plant.windows(*range(5, 125, 10))
    plant.look()
    assert [y is not None for y in plant.taught()] == [False] * 7 + [True] * 5


def test_a_full_disk_is_an_error_to_who_puts_and_heals(disk: Disk, tmp_path: Path) -> None:
    plant = Plant(tmp_path)
    disk.fill()
    with pytest.raises(StorageError, match="labels cannot be written"):
        for i in range(10_000):
            plant.put("worn" if i % 2 else "ok", i, i + 1)
    disk.free()
    plant.put("worn", 0, 1)
    plant.close()


def test_what_is_offered_is_stored_by_the_thread_and_at_the_end(plant: Plant, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(labelling, "MAX_OFFERED", 3)
    plant.windows(10)
    for i in range(5):
        plant.book.offer(Label("pump", T0, T0 + 10 * S, "worn" if i % 2 else "ok", "inspection"))
    assert plant.book.lost == 2
    plant.book.start()
    plant.book.stop()
    plant.open()
    assert plant.shown()["labels"] == 3
    plant.look()
    assert plant.taught() == [0]


def test_kill_9_after_put_loses_nothing(tmp_path: Path) -> None:
    """Every label that was acknowledged is there, and joined, after the process is killed."""
    program = f"""
import sys
from pathlib import Path
from fedge_agent.samples.label_book import LabelBook, Subject
from fedge_agent.types import Label
book = LabelBook(Path({str(tmp_path / "samples.sqlite")!r}), {{"pump": Subject("m", lambda: None)}}, lambda *_: None)
for i in range(10**6):
    book.put(Label("pump", {T0} + i * {S}, {T0} + (i + 1) * {S}, "worn", "mes"))
    print(i, flush=True)
"""
    process = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    last = [int(process.stdout.readline()) for _ in range(50)][-1]
    os.kill(process.pid, signal.SIGKILL)
    last = max([last, *map(int, process.stdout.read().splitlines())])
    process.wait()
    process.stdout.close()
    plant = Plant(tmp_path)
    for i in range(last + 1):
        plant.samples.put(Sample("m", "pump", T0 + (i + 1) * S, np.zeros(1, np.float32), None, False, S))
    plant.samples.flush()
    plant.look()
    assert plant.taught() == [1] * (last + 1)
    plant.close()


@pytest.mark.parametrize("part", ["", "A1"])
def test_a_label_reads_only_the_samples_of_its_time_or_part(plant: Plant, part: str) -> None:
    """Else a label cost 18 ms, and ten thousand of them three minutes at each start."""
    plant.windows(*range(20), part="A1")
    work = []
    for others in (range(100, 120), range(120, 2120)):
        plant.windows(*others, part="B1")
        plant.put("worn", 0, 20, part=part)
        plant.look()
        with plant.book.tables.reading() as db, counted(db) as counts:
            plant.put("broken", 0, 20, part=part)
            plant.look()
        work.append(counts.instructions)
    assert plant.taught()[:20].count(2) > 5 and work[1] < 1.2 * work[0]


def test_every_origin_has_a_rank_of_its_own() -> None:
    assert sorted(RANKS, key=RANKS.__getitem__) == ["plc", "mes", "inspection", "hand"]
