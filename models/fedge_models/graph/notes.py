# SPDX-License-Identifier: Apache-2.0
"""Sentences about what intake changed in a file, stored in its metadata: `model show` prints them wherever it lies."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    import onnx

NOTES_KEY = "fedge.intake"
MOST_NOTES = 64  # of a file; a Transformer of many equal layers has several for each
MORE = f"notes: more than {MOST_NOTES}; the others are left out"


def note(model: onnx.ModelProto, text: str) -> bool:
    """Add a sentence to the file's notes, once. Return whether it is new."""
    found = notes(model)
    made = _bounded([*found, text])
    if text in found or made == found:
        return False
    _write(model, made)
    return True


def replace_notes(model: onnx.ModelProto, begin: str, texts: list[str]) -> bool:
    """Let the file's notes that begin so be these. Return whether they were others."""
    found = notes(model)
    rest = [n for n in found if not n.startswith(begin)]
    made = _bounded([*rest, *texts])
    if made != found:
        _write(model, made)
    return made != found


def _bounded(texts: list[str]) -> list[str]:
    """The first of them, and the word that there are more."""
    return texts if len(texts) <= MOST_NOTES else [*texts[:MOST_NOTES], MORE]


def _write(model: onnx.ModelProto, texts: list[str]) -> None:
    others = [(e.key, e.value) for e in model.metadata_props if e.key != NOTES_KEY]
    del model.metadata_props[:]
    for key, value in [*others, (NOTES_KEY, msgspec.json.encode(texts).decode())]:
        model.metadata_props.add(key=key, value=value)


def notes(model: onnx.ModelProto) -> list[str]:
    """Return the file's notes; none where the entry is not a list of sentences."""
    for entry in model.metadata_props:
        if entry.key == NOTES_KEY:
            try:
                return msgspec.json.decode(entry.value, type=list[str])
            except msgspec.DecodeError:
                return []
    return []
