# SPDX-License-Identifier: Apache-2.0
"""What PyTorch's exporters say in a file: which tensors are parameters, and so which single numbers are weights."""

from __future__ import annotations

import re
from math import prod
from typing import TYPE_CHECKING

from ..protos import FLOAT

if TYPE_CHECKING:
    import onnx

SIGNATURE = "pkg.torch.export.ExportedProgram.graph_signature"
INPUT = re.compile(r"^\w+: (\w+) target='([^']*)'", re.M)
ATTRIBUTE = re.compile(r"(?!fedge\.|val_\d|_\d)(\d+\.)*[A-Za-z_]\w*(\.\w+)*$")  # as `state_dict` names it
IN_CODE = re.compile(  # what the newer exporter calls a constant of the code; no attribute of a module
    r"^(arange|const_cast|eye|full|full_like|linspace|ones|ones_like|scalar_tensor|zeros|zeros_like)(_default)?(_\d+)?$"
)
QUANTISED = ("DequantizeLinear", "QuantizeLinear")
PARAMETER, PYTORCH = "PARAMETER", "pytorch"


def kinds(model: onnx.ModelProto) -> dict[str, str]:
    """PARAMETER, BUFFER, … by the name in PyTorch; nothing for a file of another tool or of the older exporter."""
    signature = next((e.value for e in model.graph.metadata_props if e.key == SIGNATURE), "")
    return {target: kind for kind, target in INPUT.findall(signature)}


def single_parameters(model: onnx.ModelProto) -> set[str]:
    """Return the initializers of one value that are weights: a temperature, a learnt scale or exponent.

    The newer exporter says so. The older one keeps an attribute's name for parameters and buffers only: a constant of
    the code has a name that begins with a slash.
    """
    singles = {t.name for t in model.graph.initializer if t.data_type == FLOAT and prod(t.dims) == 1}
    if found := kinds(model):
        return {n for n in singles if found.get(n) == PARAMETER}
    if not singles or model.producer_name != PYTORCH:
        return set()
    steps = {n for node in model.graph.node if node.op_type in QUANTISED for n in node.input}
    return {n for n in singles - steps if ATTRIBUTE.match(n) and not IN_CODE.match(n)}
