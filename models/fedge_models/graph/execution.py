# SPDX-License-Identifier: Apache-2.0
"""Run nodes forwards and gradients backwards, over numbered values: nothing is looked up by name while training.

A gradient that has a place (a view of the flat gradient) is written there. Not thread-safe; values and gradients are
valid until the next run.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from ..errors import ModelError
from ..ops.operator import Array, Backprop, Node, Operator
from ..ops.registry import OPERATORS
from ..ops.workspace import Workspace
from .nodes import TROUBLE


class Way(NamedTuple):
    """A node's backward step: what the node wrote, and where the gradients of its inputs go, by input position."""

    writes: tuple[int, ...]
    slopes: tuple[tuple[int, int], ...]  # to the number of the input
    targets: tuple[tuple[int, Array], ...]  # to a view of the flat gradient


class Step(NamedTuple):
    """One node, with the numbers of what it reads and writes; `way`: None where no gradient is wanted."""

    node: Node
    operator: Operator
    reads: tuple[int, ...]
    writes: tuple[int, ...]
    way: Way | None
    ends: tuple[int, ...]  # what no later node reads: only what the backward step itself holds stays in memory


class Execution:
    """Nodes in an order in which they can run, with their values and gradients."""

    def __init__(self, nodes: Sequence[Node], constants: Mapping[str, Any], output: str, where: str) -> None:
        self._nodes, self._where = nodes, where
        self._numbers: dict[str, int] = {}
        self._final = _final_softmax(nodes, output)
        kept = {*constants, output, *(self._final.inputs if self._final is not None else ())}
        ends = last_reads(nodes, kept)
        self._steps = [
            self._step(node, [self._number(n) for n in ended]) for node, ended in zip(nodes, ends, strict=True)
        ]
        self._constants = {self._number(n): array for n, array in constants.items()}
        self._output = self._ended = self._number(output)
        self._tape: list[tuple[Way, Backprop]] = []
        self._values: list[Any] = []
        self._recorded = False  # whether there is a forward pass that no backward pass has used
        self._workspace = Workspace()
        for node in nodes:
            node.workspace = self._workspace
        self.release()

    @property
    def ends_in_softmax(self) -> bool:
        """Whether the output is a Softmax over the last axis, so that cross entropy is better taken before it."""
        return self._final is not None

    def forward(self, feeds: Mapping[str, Array], logits: bool = False) -> Array:
        """Return the output for input values by name; `logits`: what goes into the final Softmax, if there is one.

        Raises ModelError naming the node that cannot take what it gets.
        """
        values, tape = self._values, self._tape
        tape.clear()
        self._recorded = False
        for name, array in feeds.items():
            if name in self._numbers:
                values[self._numbers[name]] = array
        skipped, node = self._final if logits else None, self._nodes[0]
        try:
            for node, operator, reads, writes, way, ends in self._steps:
                if node is skipped:
                    continue
                y, backprop = operator(node, *[values[i] for i in reads])
                if len(writes) == 1:
                    values[writes[0]] = y
                else:
                    for i, part in zip(writes, y, strict=True):
                        values[i] = part
                if way is not None:
                    tape.append((way, backprop))
                for i in ends:
                    values[i] = None
        except ModelError as e:
            raise ModelError(f"{self._where}: {e}") from e
        except TROUBLE as e:
            raise ModelError(f"{self._where}: node {node.name!r} ({node.op_type}) cannot be run: {e}") from e
        self._ended = self._number(skipped.inputs[0]) if skipped is not None else self._output
        self._recorded = True
        result: Array = values[self._ended]
        return result

    def backward(self, dy: Array) -> Mapping[str, Array]:
        """Propagate the gradient by the last output; return gradients by constants that have no place, by name.

        Once for each `forward`: activations are given up as soon as no step needs them.
        """
        if not self._recorded:
            raise RuntimeError("backward without forward before it")
        grads: dict[int, Array] = {self._ended: dy}
        tape, self._recorded = self._tape, False
        while tape:
            (writes, slopes, targets), backprop = tape.pop()
            if len(writes) == 1:
                upstream: Any = grads.pop(writes[0], None)
                if upstream is None:
                    continue
            else:
                upstream = [grads.pop(i, None) for i in writes]
                if all(dy is None for dy in upstream):
                    continue
            found = backprop(upstream)
            if not found:  # shapes and other integers have none
                continue
            for position, place in targets:
                if found[position] is not place:
                    place[...] = 0 if found[position] is None else found[position]
            for position, i in slopes:
                grad = found[position]
                if grad is not None:
                    grads[i] = grads[i] + grad if i in grads else grad
        names = {i: name for name, i in self._numbers.items() if i in grads} if grads else {}
        return {name: grads[i] for i, name in names.items()}

    def training(self, rng: np.random.Generator | None) -> None:
        """Switch to training, with the random generator of Dropout, or (None) back to inference."""
        for node in self._nodes:
            node.rng = rng

    def release(self) -> None:
        """Free all memory except that of the constants."""
        self._tape.clear()
        self._recorded = False
        self._values = [self._constants.get(i) for i in range(len(self._numbers))]
        for node in self._nodes:
            node.release()

    def _number(self, name: str) -> int:
        return self._numbers.setdefault(name, len(self._numbers))

    def _step(self, node: Node, ends: Sequence[int]) -> Step:
        reads = tuple(self._number(name) for name in node.inputs)
        wanted = [(p, i) for p, i in enumerate(reads) if node.wanted[p]]
        slopes = tuple((p, i) for p, i in wanted if p not in node.targets)
        targets = tuple((p, node.targets[p]) for p, _ in wanted if p in node.targets)
        writes = tuple(self._number(name) for name in node.outputs)
        way = Way(writes, slopes, targets) if wanted else None
        return Step(node, OPERATORS[node.op_type], reads, writes, way, tuple(ends))


def aim(nodes: Sequence[Node], places: Mapping[str, Array]) -> set[str]:
    """Give each parameter that one node reads once its place in the flat gradient; return the names of those."""
    readers = [(node, position) for node in nodes for position in range(len(node.inputs))]
    by_name: dict[str, list[tuple[Node, int]]] = {}
    for node, position in readers:
        by_name.setdefault(node.inputs[position], []).append((node, position))
    served = {name for name in places if len(by_name.get(name, [])) == 1}
    for name in served:
        node, position = by_name[name][0]
        node.targets[position] = places[name]
    return served


def last_reads(nodes: Sequence[Node], kept: Collection[str]) -> list[list[str]]:
    """Return, for each node, the values that no node after it reads, except those that are `kept`."""
    found, read = [], set(kept)
    for node in reversed(nodes):
        names = {name for name in (*node.inputs, *node.outputs) if name and name not in read}
        found.append(sorted(names))
        read |= names
    return found[::-1]


def _final_softmax(nodes: Sequence[Node], output: str) -> Node | None:
    """The Softmax over the last axis that writes the output, if no other node reads it."""
    for node in nodes:
        if output in node.inputs:
            return None
    last = next((node for node in nodes if output in node.outputs), None)
    return last if last is not None and last.op_type == "Softmax" and last.attr("axis", -1) in (-1, 1) else None
