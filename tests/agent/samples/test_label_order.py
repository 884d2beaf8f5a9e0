# SPDX-License-Identifier: Apache-2.0
"""Samples keep what they were said to be when a model file has its labels in another order, others, or another task."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from fedge_agent.samples import label_order
from fedge_agent.samples.label_order import LabelOrder, order_of, renumbering
from fedge_agent.samples.sample_table import Sample, stored_value
from fedge_agent.samples.store import SampleStore
from fedge_models.graph.card import Card, Channel, Target, WindowSpec
from fedge_models.graph.card.spec import Task
from fedge_models.system import healing
from support.at_end import AtEnd
from support.databases import Disk, rows

CHANNELS, WINDOW = (Channel("a"),), WindowSpec(1, 8, 8)


def card(task: Task, *labels: str, normal: str = "", targets: tuple[Target, ...] = ()) -> Card:
    return Card(task, CHANNELS, WINDOW, ("mean",), labels, normal, targets=targets)


GOOD = order_of(card("classify", "good", "worn", "dry"))


@pytest.mark.parametrize(
    ("now", "expected"),
    [
        (card("classify", "good", "worn", "dry"), [0, 1, 2]),
        (card("classify", "dry", "good", "worn"), [1, 2, 0]),
        (card("classify", "Good", "WORN"), [0, 1, None]),
        (card("classify", "good", "worn", "dry", "loose"), [0, 1, 2]),
        (card("classify", "left", "right"), [None, None, None]),
        (card("anomaly"), [0, 1, 1]),
        (card("multilabel", "worn", "dry"), [None, None, None]),
        (card("regress"), [None, None, None]),
    ],
)
def test_the_number_of_a_class_follows_its_name(now: Card, expected: list[int | None]) -> None:
    new = renumbering(GOOD, order_of(now))
    assert [new(float(y)) for y in range(3)] == expected
    assert new(3.0) is None and new(-1.0) is None and new(b"12345678") is None


def test_what_is_normal_stays_so_by_its_meaning() -> None:
    order = order_of(card("classify", "worn", "fine", normal="fine"))
    assert [renumbering(order, order_of(card("anomaly")))(y) for y in (0, 1)] == [1, 0]
    assert [renumbering(order_of(card("anomaly")), order)(y) for y in (0, 1)] == [1, None]
    named = order_of(card("classify", "anomaly", "normal", normal="normal"))
    assert [renumbering(order_of(card("anomaly")), named)(y) for y in (0, 1)] == [1, 0]


def test_sets_of_labels_follow_their_names() -> None:
    before = order_of(card("multilabel", "hot", "worn", "dry"))
    stored = stored_value((1.0, 0.0, 1.0))
    assert renumbering(before, order_of(card("multilabel", "dry", "worn")))(stored) == stored_value((1.0, 0.0))
    assert renumbering(before, order_of(card("multilabel", "worn")))(stored) == stored_value((0.0,))
    assert renumbering(before, order_of(card("multilabel", "dry", "loose")))(stored) is None  # nobody said: loose?
    to_anomaly = renumbering(before, order_of(card("anomaly")))
    assert to_anomaly(stored) == 1 and to_anomaly(stored_value((0.0, 0.0, 0.0))) == 0


def test_targets_follow_their_names_and_units() -> None:
    two = order_of(card("regress", targets=(Target("wear", "mm"), Target("heat", "K"))))
    stored = stored_value((0.5, 300.0))
    turned = order_of(card("regress", targets=(Target("heat", "K"), Target("wear", "mm"))))
    assert renumbering(two, turned)(stored) == stored_value((300.0, 0.5))
    one, unnamed = order_of(card("regress", targets=(Target("wear", "mm"),))), order_of(card("regress"))
    assert renumbering(two, one)(stored) == 0.5 and renumbering(one, two)(0.5) is None
    assert renumbering(one, unnamed)(0.5) == 0.5 == renumbering(unnamed, one)(0.5)
    assert renumbering(two, unnamed)(stored) is None
    assert renumbering(one, order_of(card("regress", targets=(Target("wear", "um"),))))(0.5) is None


@pytest.mark.parametrize("order", [GOOD, order_of(card("regress", targets=(Target("wear", "mm"),)))])
def test_an_order_is_read_as_it_is_stored(order: LabelOrder, at_end: AtEnd, tmp_path: Path) -> None:
    store = at_end(SampleStore(tmp_path / "s", {"m": 100}))
    store.begin("m", b"r", None, order)
    noted = rows(tmp_path / "s", "SELECT names FROM sample_labels")[0][0]
    assert label_order.decode(noted) == order


def _put(store: SampleStore, *values: float | None) -> None:
    for y in values:
        end = int(store.total.get("m", 0)) + 1
        store.put(Sample("m", "pump", end, np.ones(1, np.float32), y, False))
        store.flush()


def _values(path: Path) -> list[float | None]:
    return [y for (y,) in rows(path, "SELECT y FROM samples ORDER BY id")]


def test_stored_samples_get_the_numbers_of_the_new_file(at_end: AtEnd, tmp_path: Path) -> None:
    path = tmp_path / "s"
    store = at_end(SampleStore(path, {"m": 100}))
    store.begin("m", b"r", None, GOOD)
    _put(store, 0, 1, 2, None, 1)
    store.begin("m", b"r", None, GOOD)
    assert _values(path) == [0, 1, 2, None, 1] and not +store.without_label
    store.begin("m", b"r", None, order_of(card("classify", "worn", "good")))
    assert _values(path) == [1, 0, None, None, 0]
    assert dict(store.without_label) == {"m": 1}
    assert rows(path, "SELECT origin FROM samples WHERE id = 3") == [(0,)]  # a label may come again
    assert store.labels("m") == {"-": 2, "0": 2, "1": 1}


def test_samples_of_a_version_that_noted_no_names_lose_what_the_file_cannot_mean(at_end: AtEnd, tmp_path: Path) -> None:
    path = tmp_path / "s"
    store = at_end(SampleStore(path, {"m": 100}))
    store.begin("m", b"r")
    _put(store, 0, 2, 7)
    store.begin("m", b"r", None, GOOD)
    assert _values(path) == [0, 2, None] and store.without_label["m"] == 1


def test_an_order_that_begins_in_memory_holds_in_the_file(
    at_end: AtEnd, tmp_path: Path, disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "s"
    store = at_end(SampleStore(path, {"m": 100}))
    store.begin("m", b"r", None, GOOD)
    _put(store, 0, 1, 2)
    disk.fill()
    store.put(Sample("m", "pump", 9, np.ones(5000, np.float32), 0, False))
    store.flush()
    assert store.tables.in_memory
    store.begin("m", b"r", None, order_of(card("classify", "dry", "worn", "good")))
    _put(store, 1)
    disk.free()
    monkeypatch.setattr(healing, "TRY_S", 0.0)
    _put(store, 2)
    assert not store.tables.in_memory
    with closing(sqlite3.connect(path)) as db:
        found = db.execute("SELECT y FROM samples WHERE length(x) = 4 ORDER BY id").fetchall()
    assert [y for (y,) in found] == [2, 1, 0, 1, 2]
