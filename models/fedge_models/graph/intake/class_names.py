# SPDX-License-Identifier: Apache-2.0
"""Bring scores into the order of the card's labels, where the file itself names its classes.

scikit-learn sorts classes by name, so that ``bad`` comes before ``ok``: with labels in another order on the card, each
would be taken for the other. Ultralytics writes a name for each number into the file's metadata. Names that the card
does not have are noted beside its own.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Sequence
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np

from ...protos import attribute, tensor
from ..card import Card
from ..notes import note, notes
from ..onnx_file import tensors
from ..refusals import refuse
from .compare import results, samples
from .free_names import FreeNames

if TYPE_CHECKING:
    import onnx

LISTS = ("classlabels_strings", "classlabels_ints", "classlabels_int64s")  # of ZipMap and of classifiers
NAMES = "labels: "  # how the notes begin
SAID = ("names", "class_names", "classes", "labels")  # keys of metadata; the first one by Ultralytics
CHOOSING = ("ArrayFeatureExtractor", "Gather")  # a name by its number
STRINGS, INTEGERS = 8, (6, 7)  # element types


def class_names(model: onnx.ModelProto, card: Card) -> list[str]:
    """What the file calls its classes, in the order of their scores; nothing where it does not say, or was read before.

    Numbers are names only where the card's labels are these numbers.
    """
    if card.task != "classify" or any(n.startswith(NAMES) for n in notes(model)):
        return []
    for found, are_words in _lists(model, len(card.labels)):
        if len(found) == len(card.labels) and (are_words or {*found} == {*card.labels}):
            return found
    return []


def _lists(model: onnx.ModelProto, count: int) -> Iterator[tuple[list[str], bool]]:
    """Each list of names in the graph, and whether they are words; stored ones only where there are as many."""
    stored = tensors(model)
    yield from ((_said(entry.value), True) for entry in model.metadata_props if entry.key in SAID)
    for node in model.graph.node:
        given: dict[str, Any] = {a.name: attribute(a) for a in node.attribute if a.name in (*LISTS, "values_strings")}
        for key, values in given.items():
            if len(values):
                yield [_word(v) for v in values], key.endswith("strings")
        held = stored.get(node.input[0]) if node.op_type in CHOOSING and len(node.input) else None
        if held is not None and prod(held.dims) == count and held.data_type in (STRINGS, *INTEGERS):
            yield _held(held), held.data_type == STRINGS


def _said(text: str) -> list[str]:
    """Names in the file's metadata: a list, or a name by each number; nothing for another text."""
    try:
        found = ast.literal_eval(text)
        named = [found[i] for i in range(len(found))] if isinstance(found, dict) else found
    except (ValueError, SyntaxError, TypeError, KeyError, MemoryError, RecursionError):
        return []
    return [str(n) for n in named] if isinstance(named, list) else []


def _held(stored: onnx.TensorProto) -> list[str]:
    """The words or numbers of a stored tensor."""
    from onnx import numpy_helper

    return [_word(v) for v in numpy_helper.to_array(stored).ravel().tolist()]


def _word(value: Any) -> str:
    return value.decode("utf-8", "backslashreplace") if isinstance(value, bytes) else str(value)


def in_cards_order(model: onnx.ModelProto, card: Card, names: Sequence[str], where: str) -> bool:
    """Turn the columns of the only output to the card's order, in place. Return whether anything changed.

    names: of the columns, as `class_names` found them. Raises ModelError for one value for both of two labels.
    """
    if not names or [*names] == [*card.labels]:
        return False
    if {*names} != {*card.labels}:
        pairs = ", ".join(f"{there!r} is {here!r}" for there, here in zip(names, card.labels, strict=True))
        return note(model, f"{NAMES}the file has other names than the card, and they are taken in their order: {pairs}")
    found = results(model, samples(model, card))
    if found is not None and next(iter(found.values())).shape[1:] != (len(names),):
        refuse("label order", where, names=", ".join(names), labels=", ".join(card.labels))
    _turn(model, [names.index(label) for label in card.labels])
    return note(model, f"{NAMES}the file has them in the order {', '.join(names)}; the output has them in the card's")


def _turn(model: onnx.ModelProto, order: list[int]) -> None:
    """Choose the columns of the output in another order; in front of a last Softmax, so that logits stay known."""
    from onnx import helper

    graph, name = model.graph, model.graph.output[0].name
    free = FreeNames({t.name for t in graph.initializer} | {o for n in graph.node for o in n.output})
    places, before = free.first("fedge.order"), free.first("fedge.ordered")
    graph.initializer.append(tensor(places, np.array(order, np.int64)))
    at, last = next((i, n) for i, n in enumerate(graph.node) if name in n.output)
    if last.op_type == "Softmax":
        made = helper.make_node("Gather", [last.input[0], places], [before], name=before, axis=1)
        last.input[0] = before
        graph.node.insert(at, made)
        return
    for node in graph.node:
        for names in (node.input, node.output):
            for position, other in enumerate(names):
                if other == name:
                    names[position] = before
    graph.node.append(helper.make_node("Gather", [before, places], [name], name=before, axis=1))
