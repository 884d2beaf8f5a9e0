# SPDX-License-Identifier: Apache-2.0
"""Labels of a tag that the model does not know: counted, named with the expected ones, a problem while they last."""

from __future__ import annotations

from fedge_agent.samples.tag_labels import LASTS, TagLabels
from fedge_models.graph.card import Card, Channel, Target, WindowSpec

CARD = Card("classify", (Channel("a"),), WindowSpec(1, 10, 5), ("mean",), ("ok", "worn"))


def test_misspelt_label_is_counted_and_named_with_those_expected() -> None:
    labels = TagLabels()
    labels.read("ok", True, CARD)
    labels.read("wornn\x1b[2J", False, CARD)
    found = labels.status()
    assert found["unknown"] == 1 and found["problem"] is None
    assert found["example"].startswith(r"'wornn\\x1b[2J': expected one of ok, worn, or what label.map turns into one")
    assert found["example"].endswith("did you mean 'worn'?")
    for _ in range(LASTS):
        labels.read(7.0, False, CARD)
    assert labels.status()["problem"] == (
        f"the last {LASTS + 1} labels were ones that the model does not know, '7': expected one of ok, worn, or what "
        "label.map turns into one"
    )
    labels.read("worn", True, CARD)
    assert labels.status()["problem"] is None and labels.status()["unknown"] == LASTS + 1


def test_target_that_is_no_number() -> None:
    labels = TagLabels()
    labels.read(
        "12,5", False, Card("regress", (Channel("a"),), WindowSpec(1, 10, 5), ("mean",), targets=(Target("t"),))
    )
    assert labels.status()["example"] == "'12,5': expected a number"


def test_a_label_that_is_sent_once_lasts_as_many_windows_as_it_holds() -> None:
    labels = TagLabels()
    labels.read("wornn", False, CARD)
    for _ in range(LASTS):
        labels.window(False)
    found = labels.status()
    assert found["unknown"] == 1 and found["problem"].startswith(f"the last {LASTS} windows had labels that")
    labels.read("worn", True, CARD)
    assert labels.status()["problem"] is None


def test_a_tag_of_one_of_several_targets_gives_a_number() -> None:
    labels, two = TagLabels(), (Target("a"), Target("b"))
    labels.read("off", False, Card("regress", (Channel("a"),), WindowSpec(1, 10, 5), ("mean",), targets=two))
    assert labels.status()["example"] == "'off': expected a number"
