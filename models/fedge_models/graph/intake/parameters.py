# SPDX-License-Identifier: Apache-2.0
"""Tell which parameters one stored tensor is: exporters merge those that are equal, and then several layers read it.

What tells is, in this order: the name by which PyTorch's older exporter goes on calling a merged tensor; the signature
of its newer one, with the module of each node; the kernel that a bias follows; the turn of a node among the uses of a
layer. The newer exporter gives parameters that are one the last of their names, and merged ones the first.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from ...protos import values
from ..signature import PARAMETER, PYTORCH, kinds
from .layers import ROLES, is_generated, module
from .loops import BEHIND, KERNEL, Calls, Reader

if TYPE_CHECKING:
    import onnx

OF_BATCH_NORM = ROLES["BatchNormalization"]  # names of its inputs
NUMBER = re.compile(r"(?<![^.])\d+(?![^.])")  # of one of several layers: enc.layers.0
WEIGHT = re.compile(r"weight(?!.*weight)")  # the last one


class Name(NamedTuple):
    """How a module calls what a node reads."""

    text: str  # empty where nothing tells
    own: str = ""  # in that module, of what has another name in the file
    certain: bool = False
    place: tuple[str, ...] = ()  # what tells parameters of one name apart


class Parameter(NamedTuple):
    """Some readers of a tensor, by their numbers, for which it is one parameter."""

    name: str  # empty where nothing tells
    readers: list[int]
    certain: bool  # else only places in the graph tell it
    names: frozenset[str]  # also those that were one with it in PyTorch


class Parameters:
    """The parameters of a graph's tensors."""

    def __init__(
        self,
        model: onnx.ModelProto,
        stored: Mapping[str, onnx.TensorProto],
        readers: Mapping[str, list[Reader]],
        listed: Collection[str],
        fixed: set[str],
    ) -> None:
        """listed: names and globs of the card. fixed: what is computed from stored tensors only."""
        self._told, self._listed = kinds(model), listed
        self._order = {n: i for i, n in enumerate(n for n, kind in self._told.items() if kind == PARAMETER)}
        self._older = not self._told and model.producer_name == PYTORCH
        self._stored, self._readers, self._fixed = stored, readers, fixed
        self._sources = {r.name: s for s, read in readers.items() for r in read} | {s: s for s in readers}
        self._owners = {n.rpartition(".")[0] for n in (*stored, *self._sources) if "." in n}
        self._calls = Calls(self._owners)
        self._modules = {module(r.node) for read in readers.values() for r in read}
        self._makers = {o: n for n in model.graph.node for o in n.output}
        self._turns = {id(n): i for i, n in enumerate(model.graph.node)}
        self._varied: dict[str, bool] = {}
        self._users: dict[tuple[int, str, str], str] = {}
        self._homes: dict[str, str] = {}  # modules whose tensors these are
        self._firsts: dict[str, set[tuple[str, str, str, str]]] = {}

    def of(self, source: str, found: Sequence[Reader]) -> list[Parameter]:
        """Group the readers of a tensor."""
        named = [self._name(source, r, found) for r in found]
        groups: dict[tuple[object, ...], list[int]] = {}
        for i, (reader, name) in enumerate(zip(found, named, strict=True)):
            text = source if self._is_tied(source, name) else name.text
            groups.setdefault((text, reader.norm_input, name.place), []).append(i)
        turned = [part for group in groups.values() for part in self._by_turns(group, found, named)]
        return [_joined(g, named) for g in turned]

    def is_varied(self, source: str) -> bool:
        """Whether a tensor has different values, as one has that was drawn or trained."""
        if source not in self._varied:
            self._varied[source] = bool(np.ptp(values(self._stored[source])) > 0)
        return self._varied[source]

    def _is_tied(self, source: str, name: Name) -> bool:
        """Whether the card says so of a drawn tensor by its very name; copies of a layer have other numbers."""
        if not name.text or name.certain or not self.is_varied(source):
            return False
        is_copy = name.text != source and NUMBER.sub("#", name.text) == NUMBER.sub("#", source)
        return bool({source, name.text} & {*self._listed}) and not is_copy

    def _name(self, source: str, reader: Reader, found: Sequence[Reader]) -> Name:
        if self._older and not is_generated(reader.name):
            return Name(reader.name, certain=True)
        user = self._user(source, reader)
        kernel = "" if self.is_varied(source) or reader.of_batch_norm else self._kernel(reader)
        if not user and (self.is_varied(source) or self._fixed.issuperset(reader.node.input)):
            return Name(source)
        place = (reader.node.op_type, str(reader.position), kernel)
        if not user:
            return Name("", place=place)
        if (user, *place) in self._of_first(source, found):
            return Name(source, certain=True)
        sure = [*self._by_role(reader, user), *self._by_kernel(kernel, user)]
        told = next((n for n in sure if n in self._told), "")
        if told or (sure and not self._told):
            name = told or sure[0]
            return Name(source if self._is_last(source, name) else name, name, certain=bool(self._told))
        return self._by_suffix(source, reader, user, kernel, found)

    def _user(self, source: str, reader: Reader) -> str:
        """The module that a reader belongs to, by its first call."""
        key = id(reader.node), source, reader.name
        if key not in self._users:
            found = self._calls.user(source, reader)
            first, _, number = found.rpartition("_")
            is_call = number.isdigit() and first in self._modules and found not in self._owners
            self._users[key] = first if is_call and reader.node.name.startswith("/") else found
        return self._users[key]

    def _of_first(self, source: str, found: Sequence[Reader]) -> set[tuple[str, str, str, str]]:
        """Modules and places where a file of the older exporter reads a tensor by its own name."""
        if source not in self._firsts:
            own = [r for r in found if self._older and r.name == source]
            uses = {(self._user(source, r), r.node.op_type, str(r.position), self._kernel(r)) for r in own}
            self._firsts[source] = uses
        return self._firsts[source]

    def _by_suffix(self, source: str, reader: Reader, user: str, kernel: str, found: Sequence[Reader]) -> Name:
        """The name that the module would have for it, if another module with such a tensor gave it its name."""
        if source not in self._homes:
            users = (self._user(source, r) for r in found)
            home = next((u for u in users if u and source.startswith(f"{u}.")), source.rpartition(".")[0])
            self._homes[source] = home
        of = self._homes[source]
        role = ROLES.get(reader.node.op_type, {}).get(reader.position, source.rpartition(".")[2])
        names = [f"{user}{source.removeprefix(of)}"] * (not is_generated(source)) + [f"{user}.{role}"]
        name = next((n for n in names if n in self._told), names[0])
        if self._told and (name not in self._told or self._is_last(source, name)):
            text = source if self.is_varied(source) else name
            return Name(text, name, certain=self.is_varied(source), place=self._place(source, reader, kernel))
        return Name(name, name, place=self._place(source, reader, kernel))

    def _place(self, source: str, reader: Reader, kernel: str) -> tuple[str, ...]:
        """What tells parameters of one module apart, of which the exporter may have merged some."""
        owner = source.rpartition(".")[0]
        beside = [n for n, i in self._told.items() if i == PARAMETER and n.rpartition(".")[0] == owner]
        if self.is_varied(source) or (source in beside and all(n in self._stored for n in beside)):
            return ()
        return (kernel,) if source in self._listed else (reader.node.op_type, str(reader.position), kernel)

    def _is_last(self, source: str, name: str) -> bool:
        """Whether the newer exporter found both to be one: then the later name is that of the tensor."""
        return name != source and self._order.get(source, -1) > self._order.get(name, len(self._order))

    def _by_role(self, reader: Reader, user: str) -> list[str]:
        """The name of what a layer of normalisation reads, of which a module has one."""
        if reader.norm_input in OF_BATCH_NORM:
            return [f"{user}.{OF_BATCH_NORM[reader.norm_input]}"]
        role = ROLES.get(reader.node.op_type, {}).get(reader.position) if "Norm" in reader.node.op_type else None
        return [f"{user}.{role}"] if role else []

    def _by_kernel(self, kernel: str, user: str) -> list[str]:
        """The name of the bias of a kernel."""
        return [WEIGHT.sub("bias", kernel)] if kernel.startswith(f"{user}.") and WEIGHT.search(kernel) else []

    def _kernel(self, reader: Reader) -> str:
        """The drawn matrix whose product a bias is added to, in the same node or one close before; else empty."""
        if "Norm" in reader.node.op_type:
            return ""
        at, nodes = KERNEL.get(reader.node.op_type, -1), [reader.node]
        if 0 <= at < reader.position:
            return self._sources.get(reader.node.input[at], "")
        for _ in range(BEHIND if reader.node.op_type == "Add" else 0):
            nodes = [self._makers[n] for node in nodes for n in node.input if n in self._makers]
            read = [self._sources[n] for node in nodes for n in node.input if n in self._sources]
            if kernels := [s for s in read if len(self._stored[s].dims) > 1 and self.is_varied(s)]:
                return kernels[0]
        return ""

    def _by_turns(self, group: list[int], found: Sequence[Reader], named: Sequence[Name]) -> list[list[int]]:
        """Part readers that only their turn tells apart: twice in each use of a layer, it is two parameters."""
        if len(group) < 4 or named[group[0]].certain or self.is_varied(self._sources[found[group[0]].name]):
            return [group]
        group = sorted(group, key=lambda i: self._turns[id(found[i].node)])
        turns = [self._turns[id(found[i].node)] for i in group]
        user = self._user(self._sources[found[group[0]].name], found[group[0]])
        each = min([p for uses in self._uses(user) if (p := _in_each(turns, uses))], default=1)
        return [group[i::each] for i in range(each)]

    def _uses(self, user: str) -> list[list[int]]:
        """Where the drawn tensors are read that several nodes of a module read; of any, for a node without one."""
        found = []
        for source, read in self._readers.items():
            own = [r for r in read if not user or self._user(source, r) == user]
            if len(own) > 1 and self.is_varied(source):
                found.append(sorted(self._turns[id(r.node)] for r in own))
        return found


def _joined(group: list[int], named: Sequence[Name]) -> Parameter:
    several = [named[i] for i in group]
    names = frozenset(n for name in several for n in (name.text, name.own) if n)
    return Parameter(several[0].text, group, all(name.certain for name in several), names)


def _in_each(turns: Sequence[int], uses: Sequence[int]) -> int:
    """How many of the turns there are for each use, if always as many; else 0."""
    each, rest = divmod(len(turns), len(uses))
    before = [sum(t < use for t in turns) for use in uses]
    regular = all(count == before[0] + i * each for i, count in enumerate(before))
    return each if not rest and regular and before[0] <= each else 0
