# SPDX-License-Identifier: Apache-2.0
"""Write names that are no UTF-8, which protobuf gives as bytes, as text: patterns, cards and messages hold text.

A tool may have written them in another encoding, or a byte of the file is damaged. Each byte that is none becomes its
number: `wei\\xffght`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from ..card import Card
from ..notes import note
from .float32 import graphs

if TYPE_CHECKING:
    import onnx

FIELDS = ("name", "op_type", "domain")


def readable_names(model: onnx.ModelProto, card: Card, where: str) -> bool:
    """Rename in place. Return whether a name was no text."""
    found: dict[str, None] = {}
    for message in _named(model):
        for field in FIELDS:
            if isinstance(old := getattr(message, field, ""), bytes):
                setattr(message, field, _text(old, found))
        for field in ("input", "output"):
            names: Any = getattr(message, field, [])
            for position, old in enumerate(names):
                if isinstance(old, bytes):
                    names[position] = _text(old, found)
    return bool(found) and note(model, f"names: {', '.join(found)}: they were no UTF-8 in the file")


def _named(model: onnx.ModelProto) -> Iterator[Any]:
    """Everything in a file that has a name, but for graphs themselves."""
    for graph in graphs(model.graph):
        yield from (*graph.initializer, *graph.input, *graph.output, *graph.value_info)
        for node in graph.node:
            yield from (node, *node.attribute)


def _text(name: bytes, found: dict[str, None]) -> str:
    made = name.decode("utf-8", "backslashreplace")
    found[made] = None
    return made
