# SPDX-License-Identifier: Apache-2.0
"""Where the samples lie after operators that compute with values."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ..nodes import SHAPES
from .constants import made_up
from .places import MismatchError, Place, Places
from .provenance import is_marked

if TYPE_CHECKING:
    import onnx

FOLDED = "onnx::"  # how names begin that PyTorch's older exporter gives to what it has computed
ZERO = (
    "state: {} is zero where a recurrent layer begins, and is not trained; if it is a parameter that is zero so far, "
    "export with dynamo=True"
)


def first(places: Places, node: onnx.NodeProto) -> None:
    place = places.one(node)
    if place.axis:
        raise MismatchError("expects the samples first")
    places.put(node, place)


def elementwise(places: Places, node: onnx.NodeProto) -> None:
    """Operators that work on each value, or along one dimension, and broadcast their inputs."""
    rank = len(places.shape(node.output[0]))
    given = {n: places.found[n] for n in node.input if n in places.found}
    aligned = {p._replace(axis=p.axis + rank - len(places.shape(n))) for n, p in given.items()}
    if len(aligned) != 1:
        raise MismatchError("samples meet in different dimensions")
    place = aligned.pop()
    largest = np.broadcast_shapes(*(places.shape(n) for n in given))
    if places.shape(node.output[0]) != largest and not broadcast(places, node, largest):
        raise MismatchError("not known where it puts the samples")
    axis = places.attribute(node, "axis")
    if isinstance(axis, int):
        at = axis % rank
        if at == place.axis or (at < place.axis and node.op_type.endswith("LayerNormalization")):
            raise MismatchError("works across samples")
    elif node.op_type.endswith("Softmax") and place.axis == rank - 1:
        raise MismatchError("works across samples")
    places.check_constants(node, place, rank)
    places.put(node, place)


def broadcast(places: Places, node: onnx.NodeProto, largest: tuple[int, ...]) -> bool:
    """Whether the result has the shape to which all inputs broadcast, samples or not."""
    try:
        shapes = [places.shape(n) for n in node.input if n]
        return np.broadcast_shapes(largest, *shapes) == places.shape(node.output[0])
    except ValueError:
        return False


def matmul(places: Places, node: onnx.NodeProto) -> None:
    left, right = (places.shape(n) for n in node.input[:2])
    rank, found = len(places.shape(node.output[0])), []
    if min(len(left), len(right)) < 2:
        raise MismatchError("multiplies a vector")
    for name, shape, rows in ((node.input[0], left, True), (node.input[1], right, False)):
        place = places.found.get(name)
        if place is None:
            continue
        from_end = len(shape) - place.axis
        if from_end == (1 if rows else 2):
            raise MismatchError("sums over samples")
        if from_end <= 2 and sum(n in places.found for n in node.input[:2]) > 1:
            raise MismatchError("multiplies samples with each other")
        found.append(place._replace(axis=rank - from_end))
    if len(set(found)) != 1:
        raise MismatchError("samples meet in different dimensions")
    place = found[0]
    if place.axis < rank - 2:
        places.check_constants(node, place, rank)
    places.put(node, place)


def gemm(places: Places, node: onnx.NodeProto) -> None:
    place = places.found.get(node.input[0])
    if place is None or node.input[1] in places.found or place.axis != places.number(node, "transA", 0):
        raise MismatchError("sums over samples")
    made = place._replace(axis=0)
    if len(node.input) > 2 and node.input[2]:
        if places.found.get(node.input[2], made) != made:
            raise MismatchError("samples meet in different dimensions")
        places.check_constants(node.__class__(input=node.input[2:]), made, 2, repeats=False)
    places.put(node, made)


def dft(places: Places, node: onnx.NodeProto) -> None:
    """The axis is an attribute before opset 20 and an input since; of three dimensions both defaults are one."""
    place, rank = places.one(node), len(places.shape(node.input[0]))
    given = places.integers(node, 2, "axis") if len(node.input) > 2 else None
    axis = given[0] if given else places.number(node, "axis", 1 if rank == 3 else -2)
    if place.axis in (axis % rank, rank - 1):
        raise MismatchError("works across samples")
    places.put(node, place)


def reduce(places: Places, node: onnx.NodeProto) -> None:
    place, rank = places.one(node), len(places.shape(node.input[0]))
    if node.op_type.startswith("Arg"):
        axes: list[int] | None = [places.number(node, "axis", 0)]
    else:
        axes = places.integers(node, 1, "axes")
    if not axes and not places.number(node, "noop_with_empty_axes", 0):
        raise MismatchError("works across samples")
    gone = {a % rank for a in axes or ()}
    if place.axis in gone:
        raise MismatchError("works across samples")
    before = 0 if places.number(node, "keepdims", 1) else sum(a < place.axis for a in gone)
    places.put(node, place._replace(axis=place.axis - before))


def recurrent(places: Places, node: onnx.NodeProto) -> None:
    last = places.number(node, "layout", 0)
    wanted = Place(0 if last else 1)
    if places.found.get(node.input[0]) != wanted or any(n in places.found for n in node.input[1:4]):
        raise MismatchError("expects the samples elsewhere")
    steps = places.shape(node.input[0])[1 if last else 0]
    for position, name in enumerate(node.input):
        if position == 4 and name:
            if name in places.found or (places.values[name] != steps).any():
                raise MismatchError("has sequences of unequal length")
            node.input[position] = ""
        if position in (5, 6) and name:
            if name in places.found:
                if places.found[name] != wanted:
                    raise MismatchError("expects the samples elsewhere")
            elif not places.values[name].any() and not _is_learnt(places, name):
                node.input[position] = ""  # zero is what it begins with anyway
            else:
                places.repeat(node, position, wanted.axis, node.input[0])
    for position, name in enumerate(node.output):
        if name:
            places.found[name] = Place(0 if last else 2 if position == 0 else 1)


def _is_learnt(places: Places, name: str) -> bool:
    """Whether a constant is, or is computed from, what may be a parameter; a fresh one is often zero."""
    makers = {o: n for n in places.graph.node if n.op_type not in SHAPES for o in n.output}
    names, known = {name}, set[str]()
    while inner := [n for n in names if n in makers]:
        known.update(inner)
        names = names.difference(inner).union(*(makers[n].input for n in inner)) - known
    floats = {n for n in names if n in places.values and places.values[n].dtype.kind == "f"}
    stored = {t.name: t for t in places.graph.initializer if t.name in floats}
    for unsure in (n for n in stored if n.startswith(FOLDED) and not places.values[n].any()):
        places.notes.append(ZERO.format(unsure))
    return any(not made_up(n) and not (n in stored and is_marked(stored[n])) for n in floats)


def einsum(places: Places, node: onnx.NodeProto) -> None:
    equation: bytes = places.attribute(node, "equation", b"")
    left, arrow, right = equation.decode().replace(" ", "").partition("->")
    terms = left.split(",")
    letters = {t[places.found[n].axis] for t, n in zip(terms, node.input, strict=True) if n in places.found}
    within = {places.found[n][1:] for n in node.input if n in places.found}
    letter = letters.pop()
    if letters or len(within) != 1 or "." in left or not arrow or letter not in right:
        raise MismatchError("sums over samples")
    for term, name in zip(terms, node.input, strict=True):
        if name not in places.found and letter in term:
            raise MismatchError("a constant of it differs between samples")
    places.put(node, Place(right.index(letter), *within.pop()))
