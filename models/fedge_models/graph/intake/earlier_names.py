# SPDX-License-Identifier: Apache-2.0
"""Keep the names that tensors had before intake renamed them, in the file's metadata.

A card that was written for the exporter's file may be given again for the one that was taken in. What it lists by the
old names (what stays at a site, what is shared or frozen) would match nothing there.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    import onnx

NAMES_KEY = "fedge.names"


def earlier_names(model: onnx.ModelProto) -> dict[str, str]:
    """The names of tensors of the file by earlier ones, which none has now; nothing where the entry is damaged."""
    there = {t.name for t in model.graph.initializer}
    return {old: new for old, new in _stored(model).items() if new in there and old not in there}


def add_names(model: onnx.ModelProto, names: Mapping[str, str]) -> None:
    """Store new names by old ones, which may be new ones of before."""
    made = {old: names.get(new, new) for old, new in _stored(model).items()} | dict(names)
    others = [(e.key, e.value) for e in model.metadata_props if e.key != NAMES_KEY]
    del model.metadata_props[:]
    for key, value in [*others, (NAMES_KEY, msgspec.json.encode(made).decode())]:
        model.metadata_props.add(key=key, value=value)


def _stored(model: onnx.ModelProto) -> dict[str, str]:
    text = next((e.value for e in model.metadata_props if e.key == NAMES_KEY), "{}")
    try:
        return msgspec.json.decode(text, type=dict[str, str])
    except msgspec.DecodeError:
        return {}
