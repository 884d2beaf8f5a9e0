# SPDX-License-Identifier: Apache-2.0
"""Labels of which several may hold: how tags, people and files give them, how they are stored and contradicted."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import pytest
from fedge_agent.samples.label_book import LabelBook, Subject
from fedge_agent.samples.label_values import accepted_values, measured_values, target_value
from fedge_agent.samples.sample_table import Sample
from fedge_agent.samples.store import SampleStore
from fedge_agent.samples.tag_labels import TagLabels
from fedge_agent.types import Label
from fedge_models.graph.card import Card, Channel, WindowSpec

S = 1_000_000_000
T0 = 1_700_000_000 * S
LABELS = ("worn", "leak", "loose")
CARD = Card("multilabel", (Channel("a"),), WindowSpec(1, 10, 5), ("mean",), LABELS)
NAMES = {"E12": "worn", "E13": "leak;loose", "ok": "normal", "7": "leak"}


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("worn", (1, 0, 0)),
        ("loose; worn", (1, 0, 1)),
        ("Loose; WORN", (1, 0, 1)),
        ("NORMAL", (0, 0, 0)),
        ("Normal;worn", None),
        ("worn;worn", (1, 0, 0)),
        ("normal", (0, 0, 0)),
        ("ok", (0, 0, 0)),
        ("E12;E13", (1, 1, 1)),
        ("E13", (0, 1, 1)),
        (0.0, (0, 0, 0)),
        (5.0, (1, 0, 1)),  # an alarm word: bits 0 and 2
        ("6", (0, 1, 1)),
        (7.0, (0, 1, 0)),  # the map says so
        (8.0, None),  # a bit that no label has
        (1.5, None),
        (-1.0, None),
        ("wornn", None),
        ("worn;E99", None),
        ("worn;normal", None),
        ("worn;2", None),
        (";", None),
        ("", None),
        ("nan", None),
    ],
)
def test_values_of_labels(value: float | str, expected: tuple[float, ...] | None) -> None:
    assert target_value(value, CARD, NAMES) == expected


@pytest.mark.parametrize("count", [20, 21, 32, 52])
def test_an_alarm_word_keeps_each_bit_however_long_it_is(count: int) -> None:
    card = msgspec.structs.replace(CARD, labels=tuple(f"e{i}" for i in range(count)))
    for bits in ({0, count - 1}, {1, 7, count - 1}, set(range(count))):
        word, expected = sum(1 << bit for bit in bits), tuple(float(i in bits) for i in range(count))
        assert target_value(float(word), card, {}) == target_value(str(word), card, {}) == expected
        assert target_value(float(word), card, {str(word): "e2"}) == tuple(float(i == 2) for i in range(count))


def test_an_alarm_word_of_which_a_float_lost_bits_is_unknown() -> None:
    card = msgspec.structs.replace(CARD, labels=tuple(f"e{i}" for i in range(60)))
    assert target_value(float((1 << 59) + 1), card, {}) is None
    assert target_value(str((1 << 59) + 1), card, {}) is None


def test_a_tag_for_each_label_says_yes_unless_it_is_zero() -> None:
    assert measured_values((255.0, 0.0, 1.0), CARD) == (1, 0, 1)
    assert measured_values((1.0, float("nan"), 1.0), CARD) is None


def test_the_words_for_what_is_accepted_and_the_nearest_label() -> None:
    assert accepted_values(CARD) == "normal, or one or more of worn, leak, loose with ';' between them"
    labels = TagLabels()
    labels.read("lek", False, CARD)
    assert labels.status()["example"].endswith("did you mean 'leak'?")


def test_samples_are_stored_relabelled_and_counted_by_their_sets(tmp_path: Path) -> None:
    samples = SampleStore(tmp_path / "s", {"m": 100})
    book = LabelBook(tmp_path / "s", {"pump": Subject("m", lambda: CARD)}, samples.count_as_new)
    x = np.zeros(1, np.float32)
    for i, y in enumerate([(1.0, 0.0, 1.0), (0.0, 0.0, 0.0), None]):
        samples.put(Sample("m", "pump", T0 + i * 20 * S, x, y, False, 9 * S))
    samples.flush()
    assert samples.labels("m", LABELS) == {"worn;loose": 1, "normal": 1, "-": 1}
    book.put(Label("pump", T0 - 9 * S, T0, "leak;worn", "hand"))
    book.put(Label("pump", T0 + 31 * S, T0 + 40 * S, "normal", "hand"))
    book.put(Label("pump", T0 + 11 * S, T0 + 20 * S, "lek", "hand"))
    book.match_new()
    assert samples.labels("m", LABELS) == {"worn;leak": 1, "normal": 2}
    rows = samples.rows("m", (1,), None, 3)
    assert rows.y.tolist() == [[1, 1, 0], [0, 0, 0], [0, 0, 0]]
    found = book.status()["pump"]
    assert (found["relabelled"], found["unknown"], found["contradictory"]) == (2, 1, 1)
    assert found["examples"]["contradictory"].startswith("hand says 'leak;worn' of ")
    assert ", plc said 'worn;loose' of the window that ends " in found["examples"]["contradictory"]
    book.stop()
    samples.stop()


def test_the_same_set_again_changes_nothing(tmp_path: Path) -> None:
    samples = SampleStore(tmp_path / "s", {"m": 100})
    book = LabelBook(tmp_path / "s", {"pump": Subject("m", lambda: CARD)}, samples.count_as_new)
    samples.put(Sample("m", "pump", T0, np.zeros(1, np.float32), (1.0, 1.0, 0.0), False, 9 * S))
    samples.flush()
    book.put(Label("pump", T0 - 9 * S, T0, "leak;worn", "hand"))
    book.match_new()
    found = book.status()["pump"]
    assert (found["relabelled"], found["contradictory"]) == (0, 0)
    book.stop()
    samples.stop()
