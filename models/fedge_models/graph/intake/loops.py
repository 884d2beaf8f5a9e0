# SPDX-License-Identifier: Apache-2.0
"""Know which readers of a stored tensor are the steps of an unrolled loop, in which a layer is used again and again.

The steps of a Loop that was unrolled here are marked. Else, where nodes tell their module, a module that reads one
tensor four times or more is a loop. Where they do not (Keras with unroll=True), four readers of one operator at one
position are, if each has another input. A bias says nothing itself, because the exporter may have merged those of
several fresh layers: it follows its kernel, in the same node or in the product that it is added to. Another tensor of
zeros or ones belongs to a loop if a layer's name and operator leave no doubt (the scale of a LayerNorm), or if it is
read once in every step of one. Copies that are equal because they were never trained have modules of their own (the
layers of a Transformer), or all have the same input (experts).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from ...ops.registry import SIZES
from ...protos import values
from .layers import ROLES, is_generated, module
from .unroll import step_of

if TYPE_CHECKING:
    import onnx

FEWEST = 4  # uses from which on it is a loop
KERNEL = {"Conv": 1, "ConvTranspose": 1, "GRU": 1, "Gemm": 1, "LSTM": 1, "RNN": 1}  # the input that is no bias
BEHIND = 3  # nodes from a product to what is added to it


class Reader(NamedTuple):
    """One input of one node, and the name by which it reads the tensor."""

    node: onnx.NodeProto
    position: int
    name: str
    laid_out: int = -1  # the input of a BatchNormalization that the node makes of the tensor

    @property
    def of_batch_norm(self) -> bool:
        return self.norm_input >= 0

    @property
    def norm_input(self) -> int:
        """The input of a BatchNormalization that the tensor is; below zero when it is none."""
        return self.position if self.node.op_type == "BatchNormalization" else self.laid_out

    @property
    def is_size(self) -> bool:
        """Whether the node takes a size or a rate from the tensor, which no gradient reaches."""
        return self.position in SIZES.get(self.node.op_type, ())

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
        self._sources = {r.name: s for s, read in readers.items() for r in read}
        self._calls = Calls({n.rpartition(".")[0] for n in (*stored, *self._sources) if "." in n})
        self._layers = {s for s in readers if sum(d > 1 for d in stored[s].dims) > 1}
        often = {s: read for s, read in readers.items() if len(read) >= FEWEST}
        many = {s: read for s, read in often.items() if np.ptp(values(stored[s])) > 0}
        equal = {s: [r for r in read if self._is_own(s, r)] for s, read in often.items() if s not in many}
        self._modules = {user for s, read in (many | equal).items() for user in self._often(s, read)}
        self._steps = {s: steps for s, read in many.items() if (steps := self._places(s, read))}
        self._makers = {o: n for n in nodes for o in n.output} if self._steps else {}
        self._order = [s for s in readers if s in self._steps and s in self._layers]
        turn = {id(n): i for i, n in enumerate(nodes)} if often else {}
        self._turns = {s: sorted(turn[id(r.node)] for r in read) for s, read in often.items()}
        self._each: set[str] = set()
        self._looped: set[str] = set()  # kernels and matrices
        looped = [s for s, read in often.items() if s in self._layers and all(self.key(s, r) for r in read)]
        self._looped.update(looped)
        self._each |= {s for s in often if s not in many and self._once_a_step(s, readers[s], looped)}

    def key(self, source: str, reader: Reader) -> str:
        """Name the loop that a reader is a step of; empty when it is of none."""
        if step := step_of(reader.node):
            return f"{step}{reader.position if reader.of_batch_norm else ''}"
        if reader.of_batch_norm:
            return ""
        if kernel := self._kernel(reader):
            return self.key(*kernel) and f"beside {kernel[0]}"
        user = self._calls.user(source, reader)
        if user in self._modules:
            return f"module {user}"
        if source in self._each:
            return source
        return self._unnamed(source, reader) if self._steps and not user else ""

    def _unnamed(self, source: str, reader: Reader) -> str:
        """Name the loop of a reader without a module."""
        beside = self._beside(reader) if source not in self._layers else None
        if beside is None and source in self._steps:
            return source if (reader.node.op_type, reader.position) in self._steps[source] else ""
        return beside or ""

    def _kernel(self, reader: Reader) -> tuple[str, Reader] | None:
        """The stored kernel that a node reads beside its bias or its recurrent weights, and its reader."""
        at = KERNEL.get(reader.node.op_type, reader.position)
        name = reader.node.input[at] if reader.position > at else ""
        return (self._sources[name], Reader(reader.node, at, name)) if name in self._sources else None

    def _often(self, source: str, readers: Sequence[Reader]) -> list[str]:
        """Modules that read a tensor often, beside one kernel."""
        plain = [r for r in readers if not r.of_batch_norm]
        uses = Counter((self._calls.user(source, r), k[0] if (k := self._kernel(r)) else "") for r in plain)
        return [user for (user, _), count in uses.items() if user and count >= FEWEST]

    def _places(self, source: str, readers: Sequence[Reader]) -> set[tuple[str, int]]:
        """Operators and positions by which so many nodes without a module read a tensor, each with another input."""
        plain = [r for r in readers if not r.of_batch_norm and not self._calls.user(source, r)]
        found = set()
        for place in {(r.node.op_type, r.position) for r in plain}:
            steps = [r for r in plain if (r.node.op_type, r.position) == place]
            if len({r.others for r in steps}) == len(steps) >= FEWEST:
                found.add(place)
        return found

    def _is_own(self, source: str, reader: Reader) -> bool:
        """Whether a layer of normalisation reads its own scale or shift, of which a module has one."""
        role = ROLES.get(reader.node.op_type, {}).get(reader.position) if "Norm" in reader.node.op_type else None
        return role is not None and reader.name == f"{self._calls.user(source, reader)}.{role}"

    def _once_a_step(self, source: str, readers: Sequence[Reader], looped: Sequence[str]) -> bool:
        """Whether one operator of one module reads a tensor exactly once between two steps of a loop."""
        places = {(self._calls.user(source, r), r.node.op_type) for r in readers}
        if len(places) > 1 or len({r.others for r in readers}) < len(readers) or source in self._layers:
            return False
        own = self._turns[source]
        return any(_alternate(own, self._turns[s]) or _alternate(self._turns[s], own) for s in looped)

    def _beside(self, reader: Reader) -> str | None:
        """The looped matrix whose product a reader is computed with, in the same node or one close before.

        Empty when that matrix is of no loop; None when there is none, or only those of modules, which are called in one
        that has no module itself.
        """
        at = [reader.node]
        for _ in range(BEHIND):
            read = {self._sources.get(n, n) for node in at for n in node.input}
            if found := [s for s in self._order if s in read]:
                return found[0]
            if near := self._layers & read:
                return None if near <= self._looped else ""
            at = [self._makers[n] for node in at for n in node.input if n in self._makers]
        return None


def _alternate(ones: Sequence[int], others: Sequence[int]) -> bool:
    """Whether each of the others comes behind one and before the next."""
    return len(ones) == len(others) and all(
        a < b < c for a, b, c in zip(ones, others, [*ones[1:], others[-1] + 1], strict=True)
    )


class Calls(NamedTuple):
    """Modules by the calls of them: torch's older exporter numbers these `cell`, `cell_1`, ..."""

    owners: set[str]  # modules with a parameter of their own

    def user(self, source: str, reader: Reader) -> str:
        """The module that a reader belongs to."""
        found = module(reader.node)
        owner = (source if is_generated(reader.name) else reader.name).rpartition(".")[0]
        numbered = found.removeprefix(f"{owner}_") if owner and reader.node.name.startswith("/") else found
        is_call = numbered != found and numbered.isdigit() and found not in self.owners
        return owner if is_call else found
