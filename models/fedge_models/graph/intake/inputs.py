# SPDX-License-Identifier: Apache-2.0
"""Make one input of several: each takes its group of the card's channels, or a constant.

A gateway gives one sample (channels, length), or the features of its channels one after another. The card says by
`inputs` which channels each input takes; where every input has the name of a channel, it says so itself. States that a
recurrent layer begins with are zero, as every window begins anew.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NoReturn

import numpy as np
from numpy.typing import NDArray

from ...errors import ModelError
from ...protos import FLOAT, tensor, value_info
from ...system.choices import hint
from ..card import Card, InputSpec
from ..nodes import alive
from ..notes import note, notes
from ..refusals import refuse
from .axes import time_first
from .compare import copied, real_inputs
from .provenance import CONSTANT
from .pruning import prune
from .runtime import EITHER, dims

if TYPE_CHECKING:
    import onnx

JOINED = "inputs: "  # how the note begins
RECURRENT, STATES = ("GRU", "LSTM", "RNN"), (5, 6)  # operators, and their inputs for what they begin with
LAYOUT = ("Concat", "Flatten", "Identity", "Reshape", "Squeeze", "Transpose", "Unsqueeze")
CUT_OUT = (*LAYOUT[1:], "Expand", "Gather", "Slice", "Split")  # what gives each layer its part of the states
ONE_VALUE = (
    ". A gateway gives the whole window of each channel. Derive one value of it on the card, and let the input take "
    'that: derive = {{ one_value = "mean({channel})" }} (or last, max, …), and '
    '{{ name = {name!r}, channels = ["one_value"] }}'
)
TYPES = {FLOAT: np.float32, 6: np.int32, 7: np.int64, 9: np.bool_}


def join_inputs(model: onnx.ModelProto, card: Card, where: str) -> bool:
    """Make one input of several, in place. Return whether there were several.

    Raises ModelError when nobody says what each takes, or a group does not fit.
    """
    graph = model.graph
    if any(n.startswith(JOINED) for n in notes(model)):
        return False
    changed = _without_states(model, {g.name for g in card.inputs})
    given = real_inputs(graph)
    if not given or (len(given) == 1 and not card.inputs):
        return changed
    groups = _groups(card, given, where)
    joint = _Joint(model, card, where)
    for value in sorted(given, key=lambda v: joint.is_numbers(groups[v.name])):  # the others tell how many features
        joint.feed(value, groups[value.name])
    joint.finish(given)
    return True


def _without_states(model: onnx.ModelProto, listed: set[str]) -> bool:
    """Let recurrent layers begin with zero where an input that the card does not list was to say with what.

    An input on which no output depends is left out.
    """
    graph, changed = model.graph, False
    for value in real_inputs(graph) if len(real_inputs(graph)) > 1 else ():
        names, between = _laid_out(graph, value.name)
        living = [graph.node[i] for i in alive(model)]
        readers = [
            (n, i) for n in living if n.output[0] not in between for i, name in enumerate(n.input) if name in names
        ]
        if value.name in listed or not all(n.op_type in RECURRENT and i in STATES for n, i in readers):
            continue
        for node, position in readers:
            node.input[position] = ""
        kept = [copied(v) for v in graph.input if v.name != value.name]
        rest = [copied(n) for n in graph.node if n.output[0] not in between]
        del graph.input[:], graph.node[:]
        graph.input.extend(kept)
        graph.node.extend(rest)
        if not readers:
            prune(graph)  # what no output depends on may read it
        zero, out = f"state: {value.name} is zero at the beginning", f"input: {value.name} is left out"
        text = f"{zero} of each window" if readers else f"{out}, as no output depends on it"
        changed = note(model, text) or changed
    return changed


def _laid_out(graph: onnx.GraphProto, name: str) -> tuple[set[str], set[str]]:
    """The names of an input and of what only cuts or lays it out, which the second set has alone: a part a layer."""
    names, between = {name}, set[str]()
    for node in graph.node:
        if node.op_type in CUT_OUT and node.input[0] in names and not names.intersection(node.input[1:]):
            names.update(node.output)
            between.add(node.output[0])
    return (names, between) if names.isdisjoint(o.name for o in graph.output) else ({name}, set())


def _groups(card: Card, given: Sequence[onnx.ValueInfoProto], where: str) -> dict[str, InputSpec]:
    """What each input takes, by its name."""
    names = [v.name for v in given]
    if card.inputs:
        groups = {g.name: g for g in card.inputs}
        if unknown := [n for n in groups if n not in names]:
            raise ModelError(
                f"{where}: card: inputs names {unknown[0]!r}, no input of the file; {hint(unknown[0], names)}"
            )
    else:
        groups = {c.name: InputSpec(c.name, (c.name,)) for c in card.input_channels}
        groups = groups if {*groups} == {*names} else {}
    if missing := [n for n in names if n not in groups]:
        if left := next((n for n in missing if "/" in n), ""):  # a name of an inner value of TensorFlow
            refuse("left inputs", where, name=left)
        listed = ", ".join(f"{v.name} ({_words(v)})" for v in given)
        refuse("inputs", where, count=len(names), inputs=listed, first=missing[0])
    return groups


def _words(value: onnx.ValueInfoProto) -> str:
    return ", ".join(str(d.dim_value or d.dim_param or "?") for d in value.type.tensor_type.shape.dim)


class _Joint:
    """The one input, and the nodes that give each of the old ones its part of it."""

    def __init__(self, model: onnx.ModelProto, card: Card, where: str) -> None:
        self.model, self.card, self.where = model, card, where
        self.nodes: list[onnx.NodeProto] = []
        self.texts: list[str] = []
        self.width = 0  # features of each channel, once an input tells
        self.varying = len(card.input_channels) - card.numbers  # the channels that are one number a window come last
        taken = {n for node in model.graph.node for n in (*node.input, *node.output)}
        self.name = next(n for n in ("samples", "fedge.samples") if n not in taken)

    def is_numbers(self, group: InputSpec) -> bool:
        """Whether a group has only channels that are one number a window."""
        return bool(group.channels) and min(self._places(group)) >= self.varying

    def _places(self, group: InputSpec) -> list[int]:
        names = [c.name for c in self.card.input_channels]
        return [names.index(n) for n in group.channels]

    def feed(self, value: onnx.ValueInfoProto, group: InputSpec) -> None:
        """Give an input what its group says. Raises ModelError where it does not fit."""
        if group.value is not None:
            self._constant(value, group.value)
            return
        if value.type.tensor_type.elem_type != FLOAT and not becomes_float(self.model.graph, value.name):
            at = f"{self.where}: input {value.name!r}"
            raise ModelError(f"{at} takes integers, and channels are float32; give it a value")
        places = self._places(group)
        self.texts.append(f"{value.name} takes {', '.join(group.channels)}")
        if self.card.features:
            self._features(value, places)
        else:
            self._window(value, places, group)

    def finish(self, given: Sequence[onnx.ValueInfoProto]) -> None:
        """Replace the inputs."""
        graph, names = self.model.graph, {v.name for v in given}
        columns = self.varying * self.width + self.card.numbers
        shape = (columns,) if self.card.features else (len(self.card.input_channels), self.card.window.length)
        nodes = [copied(n) for n in (*self.nodes, *graph.node)]
        rest = [copied(v) for v in graph.input if v.name not in names]
        del graph.node[:], graph.input[:], graph.value_info[:]
        graph.node.extend(nodes)
        graph.input.append(value_info(self.name, ("n", *shape)))
        graph.input.extend(rest)
        note(self.model, f"{JOINED}{'; '.join(self.texts)}")

    def _features(self, value: onnx.ValueInfoProto, places: list[int]) -> None:
        """The columns of some channels; features are stored channel by channel, and last one of each number."""
        columns, varying = dims(value)[-1] if len(dims(value)) == 2 else 0, [p for p in places if p < self.varying]
        numbers = len(places) - len(varying)
        width, rest = divmod(columns - numbers, len(varying)) if varying else (self.width, columns - numbers)
        if columns <= numbers * bool(varying) or rest or (self.width and width != self.width):
            more = f" + {numbers}" if numbers else ""
            expected = f"{len(varying)} × {self.width or 'features'}{more}" if varying else f"{numbers}"
            self._unfit(value, f"columns of features: {expected}")
        self.width, last = width, self.varying * (width - 1)
        each = [
            range(p * width, (p + 1) * width) if p < self.varying else range(last + p, last + p + 1) for p in places
        ]
        self._part(value.name, [column for columns in each for column in columns])

    def _window(self, value: onnx.ValueInfoProto, places: list[int], group: InputSpec) -> None:
        """Some channels of a window, turned as the input declares it; or one value of numbers a window."""
        channels, length = len(places), self.card.window.length
        declared, single = dims(value)[1:], ((channels,), (1, channels), (channels, 1))
        plain, turned = (channels, length), (length, channels)
        if _fits(declared, plain) or _fits(declared, turned):
            self._part(value.name, places, (0, 2, 1) if self._is_turned(value, plain) else ())
            return
        if self.is_numbers(group) and (found := [f for f in single if _fits(declared, f)]):
            self._first(value.name, places, found[0])
            return
        flat = [f for f in ((channels * length,), (1, channels, length), (channels, length, 1)) if _fits(declared, f)]
        if not flat or (len(flat[0]) == 1 and channels > 1 and length > 1):
            one = ONE_VALUE.format(channel=group.channels[0], name=value.name) if declared in single else ""
            self._unfit(value, f"{plain} or {turned}{one}")
        self._part(f"{value.name}.part", places)
        shape = self._store(f"{value.name}.shape", np.array([-1, *flat[0]], np.int64))
        self._add("Reshape", [f"{value.name}.part", shape], value.name)

    def _is_turned(self, value: onnx.ValueInfoProto, plain: tuple[int, int]) -> bool:
        """Whether an input takes (time, channels). Raises ModelError when both fit, and nothing shows which."""
        declared = dims(value)[1:]
        if not _fits(declared, plain) or not _fits(declared, plain[::-1]):
            return _fits(declared, plain[::-1])
        shown = None if self.card.layout is None else self.card.layout == "time_first"
        shown = time_first(self.model, value.name, plain, plain) if shown is None else shown
        if shown is None and plain[0] == plain[1] > 1:
            raise ModelError(f"{self.where}: {EITHER.format(name=value.name, shape=plain)}")
        return bool(shown)

    def _first(self, name: str, places: list[int], form: tuple[int, ...]) -> None:
        """The first sample of rows that have the same value in each."""
        self._part(f"{name}.part", places)
        first = self._store(f"{name}.sample", np.array(0, np.int64))
        self._add("Gather", [f"{name}.part", first], name if len(form) == 1 else f"{name}.one", axis=2)
        if len(form) > 1:
            self._add("Reshape", [f"{name}.one", self._store(f"{name}.shape", np.array([-1, *form], np.int64))], name)

    def _part(self, name: str, places: list[int], perm: tuple[int, ...] = ()) -> None:
        """Some places of the second dimension."""
        to = f"{name}.turned" if perm else name
        if places == list(range(places[0], places[-1] + 1)):
            ends = ((f"{name}.first", [places[0]]), (f"{name}.end", [places[-1] + 1]), (f"{name}.axis", [1]))
            names = [self._store(n, np.array(v, np.int64)) for n, v in ends]
            self._add("Slice", [self.name, *names], to)
        else:
            self._add("Gather", [self.name, self._store(f"{name}.places", np.array(places, np.int64))], to, axis=1)
        if perm:
            self._add("Transpose", [to], name, perm=perm)

    def _constant(self, value: onnx.ValueInfoProto, number: float) -> None:
        """A constant in the shape of the input; dimensions that are open are as many as there are samples."""
        kind = TYPES.get(value.type.tensor_type.elem_type)
        if kind is None:
            self._unfit(value, "numbers")
        shape, name = dims(value), value.name
        self.texts.append(f"{name} is {number:g}")
        if not shape:
            self._store(name, np.array(number, kind))
            self._mark_last()
            return
        scalar = self._store(f"{name}.value", np.array(number, kind))
        self._mark_last()
        if all(shape):
            self._add("Expand", [scalar, self._store(f"{name}.shape", np.array(shape, np.int64))], name)
            return
        zero = self._store(f"{name}.first", np.array([0], np.int64))
        one = self._store(f"{name}.second", np.array([1], np.int64))
        self._add("Shape", [self.name], f"{name}.sizes")
        self._add("Slice", [f"{name}.sizes", zero, one], f"{name}.count")
        parts = [
            self._store(f"{name}.{i}", np.array([n], np.int64)) if n else f"{name}.count" for i, n in enumerate(shape)
        ]
        self._add("Concat", parts, f"{name}.shape", axis=0)
        self._add("Expand", [scalar, f"{name}.shape"], name)

    def _mark_last(self) -> None:
        """Mark the tensor as no parameter: by its name, the older exporter of PyTorch would call it one."""
        self.model.graph.initializer[-1].doc_string = f"{CONSTANT}a value of the card"

    def _store(self, name: str, values: NDArray[np.generic]) -> str:
        made = tensor(name, values)
        if values.dtype.kind not in "f" and values.dtype != np.int64:
            from onnx import numpy_helper

            made = numpy_helper.from_array(values, name)
        self.model.graph.initializer.append(made)
        return name

    def _add(self, op: str, inputs: list[str], output: str, **attributes: object) -> None:
        from onnx import helper

        self.nodes.append(helper.make_node(op, inputs, [output], name=output, **attributes))

    def _unfit(self, value: onnx.ValueInfoProto, expected: str) -> NoReturn:
        raise ModelError(
            f"{self.where}: input {value.name!r} takes ({_words(value)}); for its channels on the card expected the "
            f"batch and {expected}"
        )


def becomes_float(graph: onnx.GraphProto, name: str) -> bool:
    """Whether integers are only laid out before they become float32, or are cast to integers, as floats may be."""
    laid_out = {name}
    for node in graph.node:  # each after those whose results it reads
        if node.op_type != "Cast" and laid_out.intersection(node.input):
            if node.op_type not in LAYOUT:
                return False
            laid_out.update(node.output)
    return laid_out <= {n for node in graph.node for n in node.input}


def _fits(declared: tuple[int, ...], form: tuple[int, ...]) -> bool:
    """Whether dimensions may be those; 0 is any."""
    return len(declared) == len(form) and all(d in (0, f) for d, f in zip(declared, form, strict=True))
