# SPDX-License-Identifier: Apache-2.0
"""Know which readers of a stored tensor are the steps of an unrolled loop, in which a layer is used again and again.

Where nodes tell their module, a module that reads one tensor four times or more is a loop. Where they do not (Keras
with unroll=True), four readers of one operator at one position are, if each has another input. A tensor of zeros or
ones may have been merged by the exporter, so it says nothing itself: it belongs to the loop whose product it is added
to. Copies that are equal because they were never trained have modules of their own (the layers of a Transformer), or
all have the same input (experts).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from ...protos import values
from .layers import module

if TYPE_CHECKING:
    import onnx

FEWEST = 4  # uses from which on it is a loop
BEHIND = 3  # nodes from a product to what is added to it


class Reader(NamedTuple):
    """One input of one node, and the name by which it reads the tensor."""

    node: onnx.NodeProto
    position: int
    name: str

    @property
    def of_batch_norm(self) -> bool:
        return self.node.op_type == "BatchNormalization"

    @property
    def others(self) -> tuple[str, ...]:
        """The other inputs of the node."""
        return tuple(n for i, n in enumerate(self.node.input) if i != self.position)


class Loops:
    """The loops of a graph."""

    def __init__(
        self,
        nodes: Sequence[onnx.NodeProto],
        stored: Mapping[str, onnx.TensorProto],
        readers: Mapping[str, list[Reader]],
    ) -> None:
        many = {s: read for s, read in readers.items() if len(read) >= FEWEST and np.ptp(values(stored[s])) > 0}
        self._modules = {user for source, read in many.items() for user in _often(source, read)}
        self._steps = {source: steps for source, read in many.items() if (steps := _steps(source, read))}
        self._makers = {o: n for n in nodes for o in n.output} if self._steps else {}
        self._order = [s for s in readers if s in self._steps]
        self._layers = {s for s in readers if len(stored[s].dims) > 1}
        self._sources = {r.name: s for s, read in readers.items() for r in read}

    def key(self, source: str, reader: Reader) -> str:
        """Name the loop that a reader is a step of; empty when it is of none."""
        user = "" if reader.of_batch_norm else _user(source, reader)
        if user in self._modules:
            return f"module {user}"
        if user or reader.of_batch_norm or not self._steps:
            return ""
        if source in self._steps:
            return source if (reader.node.op_type, reader.position) in self._steps[source] else ""
        return self._beside(reader)

    def _beside(self, reader: Reader) -> str:
        """The looped tensor whose product a reader is computed with, in the same node or one close before."""
        at = [reader.node]
        for _ in range(BEHIND):
            read = {self._sources.get(n, n) for node in at for n in node.input}
            if found := [s for s in self._order if s in read]:
                return found[0]
            if self._layers & read:
                return ""
            at = [self._makers[n] for node in at for n in node.input if n in self._makers]
        return ""


def _often(source: str, readers: Sequence[Reader]) -> list[str]:
    uses = Counter(_user(source, r) for r in readers if not r.of_batch_norm)
    return [user for user, count in uses.items() if user and count >= FEWEST]


def _steps(source: str, readers: Sequence[Reader]) -> set[tuple[str, int]]:
    """Operators and positions by which so many nodes without a module read the tensor, each with another input."""
    plain = [r for r in readers if not r.of_batch_norm and not _user(source, r)]
    found = set()
    for place in {(r.node.op_type, r.position) for r in plain}:
        steps = [r for r in plain if (r.node.op_type, r.position) == place]
        if len({r.others for r in steps}) == len(steps) >= FEWEST:
            found.add(place)
    return found


def _user(source: str, reader: Reader) -> str:
    """The module that a reader belongs to; torch's older exporter numbers the calls of one: `cell`, `cell_1`, ..."""
    found, owner = module(reader.node), source.rpartition(".")[0]
    numbered = found.removeprefix(f"{owner}_") if owner and reader.node.name.startswith("/") else found
    return owner if numbered != found and numbered.isdigit() and reader.name == source else found
