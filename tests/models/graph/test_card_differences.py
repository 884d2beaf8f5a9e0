# SPDX-License-Identifier: Apache-2.0
"""A card that is given for a file with a card of its own never replaces that one without a word."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest
from fedge_models.graph import zoo
from fedge_models.graph.card import Card, Channel, Derived, Target, WindowSpec
from fedge_models.graph.card.differences import NAMED, differences
from fedge_models.graph.intake import read_model
from fedge_models.model import Model

CARD = Card("anomaly", (Channel("a", "K"), Channel("b")), WindowSpec(1, 8, 8), ("mean",), derive={"p": "a * b"})


def changed(**fields: Any) -> Card:
    return msgspec.structs.replace(CARD, **fields)


CHANGES = {
    "a formula": (changed(derive={"p": "a / b"}), "derive.p.formula was 'a * b', is 'a / b'"),
    "a formula's key": (changed(derive={"p": Derived("a * b", "W")}), "derive.p.unit was absent, is 'W'"),
    "a window": (changed(window=WindowSpec(1, 8, 4)), "window.hop was 8, is 4"),
    "features": (changed(features=("max",)), "features was ('mean',), is ('max',)"),
    "the order of channels": (changed(channels=CARD.channels[::-1]), "channels was ('a', 'b'), is ('b', 'a')"),
    "a unit": (changed(channels=(Channel("a", "C"), Channel("b"))), "channels.a.unit was 'K', is 'C'"),
    "scaling": (changed(scaling="file"), "scaling was None, is 'file'"),
}


@pytest.mark.parametrize("what", CHANGES)
def test_a_key_that_differs_is_named_with_both_values(what: str) -> None:
    card, said = CHANGES[what]
    assert differences(CARD, card) == said


def test_what_intake_wrote_on_a_card_and_another_leaves_open_does_not_differ() -> None:
    made = changed(constants=("c",), scaling="file")
    assert differences(made, CARD) == differences(CARD, CARD) == ""


def test_many_differences_are_counted() -> None:
    targets = tuple(Target(f"t{i}", low=0, high=9) for i in range(9))
    assert differences(CARD, changed(task="regress", targets=targets)).endswith(f"; and {29 - NAMED} more keys")


def test_a_file_says_that_another_card_is_used(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(zoo.autoencoder(CARD, 3, (2,)).SerializeToString())
    assert Model(read_model(path, CARD)).graph.notes == ()
    found = Model(read_model(path, changed(derive={"p": "a / b"}))).graph
    assert found.card.derive == {"p": "a / b"}
    (said,) = [n for n in found.notes if n.startswith("card: ")]
    assert said.endswith("a card of its own, and another is used instead: derive.p.formula was 'a * b', is 'a / b'")


def test_a_file_whose_own_card_is_broken_takes_another_and_says_so(tmp_path: Path) -> None:
    path, model = tmp_path / "m.onnx", zoo.autoencoder(CARD, 3, (2,))
    model.metadata_props[0].value = "{"
    path.write_bytes(model.SerializeToString())
    notes = Model(read_model(path, CARD)).graph.notes
    assert ["is no valid one" in n for n in notes] == [True]
