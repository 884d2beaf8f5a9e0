# SPDX-License-Identifier: Apache-2.0
"""Where the samples lie after operators that only move values."""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING

from .places import END, MismatchError, Place, Places

if TYPE_CHECKING:
    import onnx


def castlike(places: Places, node: onnx.NodeProto) -> None:
    """The second input gives only its type."""
    if node.input[0] in places.found:
        places.put(node, places.found[node.input[0]])


def transpose(places: Places, node: onnx.NodeProto) -> None:
    place, rank = places.one(node), len(places.shape(node.input[0]))
    perm = places.attribute(node, "perm") or [*range(rank)][::-1]
    places.put(node, place._replace(axis=list(perm).index(place.axis)))


def aligned(places: Places, node: onnx.NodeProto) -> list[tuple[int, Place]]:
    """Dimensions of the result where the samples may lie, by row-major order, the simplest first."""
    place, given, made = places.one(node), places.shape(node.input[0]), places.shape(node.output[0])
    behind, before = place.inner * prod(given[place.axis + 1 :]), place.outer * prod(given[: place.axis])
    options = []
    for axis, size in enumerate(made):
        post = prod(made[axis + 1 :])
        if behind % post or size % (places.batch * (behind // post)):
            continue
        inner = behind // post
        outer = size // (places.batch * inner)
        if prod(made[:axis]) * outer == before:
            options.append((axis, Place(axis, outer, inner)))
    return sorted(options, key=lambda o: (o[1].outer * o[1].inner > 1, o[0] != place.axis, o[0]))


def reshape(places: Places, node: onnx.NodeProto) -> None:
    options = aligned(places, node)
    if not options:
        raise MismatchError("takes samples apart")
    if len(options) > 1:
        turn = len(places.options)
        places.options.append(len(options))
        options = options[places.choices[turn] if turn < len(places.choices) else 0 :]
    axis, place = options[0]
    sizes = [*places.shape(node.output[0])]
    sizes[axis] = -1
    places.constant(node, 1, sizes)
    places.put(node, place)


def flatten(places: Places, node: onnx.NodeProto) -> None:
    rank = len(places.shape(node.input[0]))
    axis = places.number(node, "axis", 1)
    side = 0 if places.one(node).axis < (axis if axis >= 0 else axis + rank) else 1
    place = next((p for a, p in aligned(places, node) if a == side), None)
    if place is None:
        raise MismatchError("takes samples apart")
    places.put(node, place)


def unsqueeze(places: Places, node: onnx.NodeProto) -> None:
    place, rank = places.one(node), len(places.shape(node.output[0]))
    new = {a % rank for a in places.integers(node, 1, "axes") or ()}
    places.put(node, place._replace(axis=[a for a in range(rank) if a not in new][place.axis]))


def squeeze(places: Places, node: onnx.NodeProto) -> None:
    place, shape = places.one(node), places.shape(node.input[0])
    given = places.integers(node, 1, "axes")
    axes = {a % len(shape) for a in given} if given else {a for a, n in enumerate(shape) if n == 1}
    if place.axis in axes:
        if node.output[0] not in {o.name for o in places.graph.output}:
            raise MismatchError("removes the dimension of the samples")
        axes.discard(place.axis)
    if not axes:
        node.op_type = "Identity"
        del node.input[1:], node.attribute[:]
    elif len(node.input) > 1 or not given:
        places.constant(node, 1, sorted(axes))
    places.put(node, place._replace(axis=[a for a in range(len(shape)) if a not in axes].index(place.axis)))


def concat(places: Places, node: onnx.NodeProto) -> None:
    rank = len(places.shape(node.output[0]))
    axis, given = places.number(node, "axis", 0) % rank, {places.found[n] for n in node.input if n in places.found}
    place = given.pop()
    if given or axis == place.axis:
        raise MismatchError("joins samples")
    for position, name in enumerate(node.input):
        if name not in places.found:
            places.repeat(node, position, place.axis, next(n for n in node.input if n in places.found))
    places.put(node, place)


def split(places: Places, node: onnx.NodeProto) -> None:
    place, rank = places.one(node), len(places.shape(node.input[0]))
    if places.number(node, "axis", 0) % rank == place.axis:
        if len(node.output) != 1:
            raise MismatchError("takes samples apart")
        node.op_type = "Identity"
        del node.input[1:], node.attribute[:]
    places.put(node, place)


def slice(places: Places, node: onnx.NodeProto) -> None:
    place, shape = places.one(node), places.shape(node.input[0])
    starts, ends = places.integers(node, 1, "starts") or [], places.integers(node, 2, "ends") or []
    axes = [a % len(shape) for a in places.integers(node, 3, "axes") or range(len(starts))]
    steps = places.integers(node, 4, "steps") or [1] * len(axes)
    if place.axis in axes:
        at = axes.index(place.axis)
        if starts[at] != 0 or steps[at] != 1 or ends[at] < shape[place.axis]:
            raise MismatchError("picks samples")
        ends[at] = END
        places.constant(node, 2, ends)
    places.put(node, place)


def gather(places: Places, node: onnx.NodeProto) -> None:
    data, indices = node.input[:2]
    axis = places.number(node, "axis", 0) % len(places.shape(data))
    if indices in places.found:
        if data in places.found:
            raise MismatchError("looks samples up in samples")
        place = places.found[indices]
        places.put(node, place._replace(axis=place.axis + axis))
        return
    place = places.found[data]
    if axis == place.axis:
        raise MismatchError("picks samples")
    places.put(node, place._replace(axis=place.axis + (len(places.shape(indices)) - 1 if axis < place.axis else 0)))


def gathernd(places: Places, node: onnx.NodeProto) -> None:
    """The last dimension of the indices chooses places in the first dimensions of the data."""
    data, indices = node.input[:2]
    if places.number(node, "batch_dims", 0) or (data in places.found and indices in places.found):
        raise MismatchError("looks samples up in samples")
    depth, ahead = places.shape(indices)[-1], len(places.shape(indices)) - 1
    place = places.found[indices if indices in places.found else data]
    if (place.axis == ahead) if indices in places.found else (place.axis < depth):
        raise MismatchError("picks samples")
    places.put(node, place if indices in places.found else place._replace(axis=place.axis - depth + ahead))


def gatherelements(places: Places, node: onnx.NodeProto) -> None:
    """Inputs of the same dimensions; a constant of one sample is repeated."""
    found = {places.found[n] for n in node.input if n in places.found}
    place = found.pop()
    if found or places.number(node, "axis", 0) % len(places.shape(node.input[0])) == place.axis:
        raise MismatchError("works across samples")
    for position, name in enumerate(node.input):
        if name not in places.found:
            places.repeat(node, position, place.axis, next(n for n in node.input if n in places.found))
    places.put(node, place)


def scatter_nd(places: Places, node: onnx.NodeProto) -> None:
    """The last dimension of the indices chooses places in the first dimensions of the data; the samples lie behind."""
    data, indices, updates = node.input[:3]
    depth, ahead = places.shape(indices)[-1], len(places.shape(indices)) - 1
    beyond = ahead - depth  # how much later a dimension behind the chosen ones is in the updates
    found = {places.found[data]} if data in places.found else set()
    found |= {p._replace(axis=p.axis - beyond) for p in [places.found.get(updates)] if p is not None}
    if indices in places.found or len(found) != 1 or (place := found.pop()).axis < depth:
        raise MismatchError("picks samples")
    like = next(n for n in (data, updates) if n in places.found)
    for position, name, axis in ((0, data, place.axis), (2, updates, place.axis + beyond)):
        if name not in places.found:
            places.repeat(node, position, axis, like)
    places.put(node, place)


def topk(places: Places, node: onnx.NodeProto) -> None:
    place = places.one(node)
    if places.number(node, "axis", -1) % len(places.shape(node.input[0])) == place.axis:
        raise MismatchError("works across samples")
    places.put(node, place)


def expand(places: Places, node: onnx.NodeProto) -> None:
    place, sizes = places.one(node), [*places.shape(node.output[0])]
    axis = place.axis + len(sizes) - len(places.shape(node.input[0]))
    sizes[axis] = 1
    places.constant(node, 1, sizes)
    places.put(node, place._replace(axis=axis))


def tile(places: Places, node: onnx.NodeProto) -> None:
    place = places.one(node)
    if (places.integers(node, 1, "repeats") or [])[place.axis] != 1:
        raise MismatchError("repeats samples")
    places.put(node, place)


def pad(places: Places, node: onnx.NodeProto) -> None:
    place, rank = places.one(node), len(places.shape(node.input[0]))
    if places.shape(node.output[0])[place.axis] != places.shape(node.input[0])[place.axis] or rank < 1:
        raise MismatchError("adds samples")
    places.put(node, place)


def resize(places: Places, node: onnx.NodeProto) -> None:
    """From opset 18 on, what is cropped and how large the result is can be given for the other dimensions only."""
    place, rank = places.one(node), len(places.shape(node.input[0]))
    if places.attribute(node, "axes") is not None:
        places.put(node, place)
        return
    sizes = places.integers(node, 3, "sizes") if len(node.input) > 3 and node.input[3] else None
    crops = places.attribute(node, "coordinate_transformation_mode") == b"tf_crop_and_resize"
    if max(o.version for o in places.model.opset_import if o.domain in ("", "ai.onnx")) < 18:
        if sizes is not None:
            places.sizes(node, 3, sizes, place.axis, node.input[0])
    elif sizes is not None or crops:
        _resize_the_others(places, node, [a for a in range(rank) if a != place.axis], crops)
    places.put(node, place)


def _resize_the_others(places: Places, node: onnx.NodeProto, rest: list[int], crops: bool) -> None:
    """Give a Resize what it was given for each dimension for those of `rest` only."""
    from onnx import helper

    rank = len(rest) + 1
    for position, parts in ((1, [*rest, *(a + rank for a in rest)]), (2, rest), (3, rest)):
        if position >= len(node.input) or not node.input[position] or (position == 1 and not crops):
            continue
        values = places.values[node.input[position]]
        if values.size:
            node.input[position] = places.stored(node, position, values[parts])
    node.attribute.append(helper.make_attribute("axes", rest))


def together(places: Places, node: onnx.NodeProto) -> None:
    """Inputs that all have the samples first; one that is the same for all is repeated."""
    if {places.found[n] for n in node.input if n in places.found} != {Place(0)}:
        raise MismatchError("expects the samples first")
    like = next(n for n in node.input if n in places.found)
    for position, name in enumerate(node.input[:2]):
        if name not in places.found:
            places.repeat(node, position, 0, like)
    places.put(node, Place(0))


def affine_grid(places: Places, node: onnx.NodeProto) -> None:
    """Its second input is the size of the pictures, the batch too."""
    place = places.one(node)
    if place != Place(0):
        raise MismatchError("expects the samples first")
    places.sizes(node, 1, places.integers(node, 1, "size") or [], 0, node.input[0])
    places.put(node, place)


def one_hot(places: Places, node: onnx.NodeProto) -> None:
    place, rank = places.one(node), len(places.shape(node.output[0]))
    new = places.number(node, "axis", -1) % rank
    places.put(node, place._replace(axis=place.axis + (new <= place.axis)))
