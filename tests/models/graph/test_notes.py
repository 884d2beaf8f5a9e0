# SPDX-License-Identifier: Apache-2.0
"""A file has so many notes and no more, and says where some were left out."""

from __future__ import annotations

import onnx
from fedge_models.graph.notes import MORE, MOST_NOTES, note, notes, replace_notes


def test_notes_that_are_left_out_are_said() -> None:
    model = onnx.ModelProto()
    assert all(note(model, f"what {i}") for i in range(MOST_NOTES))
    assert note(model, "one too many") and not note(model, "another")  # the word that there are more is new once
    assert notes(model) == [*(f"what {i}" for i in range(MOST_NOTES)), MORE]
    assert not note(model, "what 3") and not replace_notes(model, "other: ", [])


def test_notes_that_take_the_place_of_others_are_bounded() -> None:
    model = onnx.ModelProto()
    note(model, "kept")
    assert replace_notes(model, "of: ", [f"of: {i}" for i in range(MOST_NOTES)])
    assert len(notes(model)) == MOST_NOTES + 1 and notes(model)[-1] == MORE
    assert replace_notes(model, "of: ", ["of: one"])
    assert {*notes(model)} == {"kept", MORE, "of: one"}
