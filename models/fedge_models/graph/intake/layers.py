# SPDX-License-Identifier: Apache-2.0
"""Which module of the exported network a node belongs to, and how that module calls a tensor that the node reads."""

from __future__ import annotations

import ast
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import onnx

SCOPES = "pkg.torch.onnx.name_scopes"
LAYER = {1: "weight", 2: "bias"}
ROLES = {
    "Add": {0: "bias", 1: "bias"},
    "BatchNormalization": {**LAYER, 3: "running_mean", 4: "running_var"},
    "Conv": LAYER,
    "ConvTranspose": LAYER,
    "Einsum": {0: "weight", 1: "weight"},
    "Gather": {0: "weight"},
    "Gemm": LAYER,
    "GroupNormalization": LAYER,
    "InstanceNormalization": LAYER,
    "LayerNormalization": LAYER,
    "MatMul": {0: "weight", 1: "weight"},
    "Mul": {0: "weight", 1: "weight"},
    "PRelu": {1: "weight"},
    "RMSNormalization": LAYER,
}
RECURRENT = {1: "weight_ih", 2: "weight_hh", 3: "bias", 7: "weight_peephole"}
GENERATED = re.compile(
    r"(onnx::\w+|val_\d+|_?\d+|(const|constant|_?tensor_constant|lifted_tensor|const_fold_opt_)_?\d+)$"
)


def is_generated(name: str) -> bool:
    """Whether an exporter has numbered a tensor, for want of a name."""
    return GENERATED.match(name.rpartition("/")[2]) is not None  # `onnx.compose` puts a prefix before each


def module(node: onnx.NodeProto) -> str:
    """The module of PyTorch that a node comes from, as in `state_dict`; empty where the exporter does not say."""
    for entry in node.metadata_props:
        if entry.key == SCOPES:
            try:
                scopes = ast.literal_eval(entry.value)
                return str(scopes[-2]) if isinstance(scopes, list) and len(scopes) > 1 else ""
            except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
                return ""
    prefix, marked, path = node.name.rpartition("//")  # of a file that `onnx.compose` merged: net//features/Conv
    names = path if marked else node.name.removeprefix("/")
    if not marked and names == node.name:
        return ""
    parts: list[str] = []
    for part in names.split("/")[:-1]:
        if parts and part.startswith(f"{parts[-1]}."):  # /features/features.0/Conv
            parts.pop()
        parts.append(part)
    return f"{prefix}/{'.'.join(parts)}" if marked and parts else ".".join(parts)


class Layers:
    """The layers of a graph, for names of their tensors."""

    def __init__(self, nodes: Sequence[onnx.NodeProto]) -> None:
        self._readers: dict[str, list[onnx.NodeProto]] = {}
        self._same: dict[str, str] = {}  # what an Identity calls another value
        self._turn: dict[int, int] = {}  # of recurrent nodes, among those of their module
        counts: dict[str, int] = {}
        for node in nodes:
            for name in node.input:
                self._readers.setdefault(name, []).append(node)
            if node.op_type == "Identity":
                self._same[node.output[0]] = self._same.get(node.input[0], node.input[0])
            if node.op_type in ("GRU", "LSTM", "RNN"):
                self._turn[id(node)] = counts.get(module(node), 0)
                counts[module(node)] = self._turn[id(node)] + 1

    def name(self, node: onnx.NodeProto, position: int, made_up: Mapping[str, object]) -> str:
        """How the module calls what a node reads there, by the bias behind it or the node's own place; else empty."""
        scope = module(node)
        if position < 2 and (found := self._by_bias(node, scope, made_up)):
            return found
        if node.op_type in ("GRU", "LSTM", "RNN"):
            role = f"{RECURRENT[position]}_l{self._turn[id(node)]}" if position in RECURRENT else ""
        else:
            role = ROLES.get(node.op_type, {}).get(position, "")
        if not scope and "/" in node.name.strip("/") and role:  # TensorFlow: model/dense/MatMul
            return f"{node.name.strip('/')}/{role}" if not node.name.startswith("/") else ""
        return f"{scope}.{role}" if scope and role else ""

    def _by_bias(self, node: onnx.NodeProto, scope: str, made_up: Mapping[str, object]) -> str:
        """`head.weight` where what is multiplied is added to `head.bias`. An exporter may have merged equal biases."""
        added = [*node.input[2:3]] if node.op_type in ("Conv", "ConvTranspose", "Gemm") else []
        if node.op_type == "MatMul":
            added = [n for r in self._readers.get(node.output[0], []) if r.op_type == "Add" for n in r.input]
        for name in (self._same.get(n, n) for n in added):
            owner = name.rpartition(".")[0]
            if name in made_up or not name.endswith("bias") or name in node.output:
                continue
            if not scope or owner == scope or owner.startswith(f"{scope}."):
                return f"{name.removesuffix('bias')}weight"
        return ""
