# SPDX-License-Identifier: Apache-2.0
"""Say in a sentence why ONNX Runtime cannot load or run a file: at which node, for what reason, and what to do.

ONNX Runtime puts codes, paths of its own source and functions around the reason; they are left out. Pure.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from ..errors import first_line
from .refusals import REFUSALS

NODES = (  # how it names a node: when it loads a file (shapes, types, no such operator), and when it runs one
    re.compile(r"Node ?\((?P<name>.*?)\) Op ?\((?P<op>\w+)\) \[\w+InferenceError\] ?(?P<why>.*)"),
    re.compile(r'In Node, \("?(?P<name>.*?)"?, (?P<op>\w+), .*?\) ?, Error (?P<why>.*)'),
    re.compile(r".*running (?P<op>\w+) node\. Name:'(?P<name>.*?)' Status Message: (?P<why>.*)"),
    re.compile(r"(?P<why>Type Error: .* of operator \((?P<op>\w+)\) in node \((?P<name>.*?)\) is invalid)"),
    re.compile(r"(?P<why>Could not find an implementation for (?P<op>\w+)\(\d+\)) node with name '(?P<name>.*?)'"),
)
UNKNOWN = re.compile(r"Fatal error: (?P<op>[\w.:]+)\(-?\d+\) is not a registered function/op")
AROUND = re.compile(
    r"\[ONNXRuntimeError\] : \d+ : \w+ : |Load model from .*? failed: ?|Exception during initialization: |"
    r"This is an invalid model\. |Fatal error: |\S+\.(?:cc|cpp|h):\d+ (?:[^()]*\(.*?\)(?: const)?|\w+) "
)
SIZES = ("dimension", "shape", "broadcast", "rank")
MISMATCHED = (
    "The exporter wrote shapes that do not fit each other, as TorchScript does for unfold. Export it another way, in "
    "PyTorch with dynamo=True"
)
CORRECT = "Correct that node, or export the file again"
NEWER = "Export with opset 17, and that layer with operators of ONNX only"
LATER = "A newer version of onnx wrote the file. Export it with opset 17, or with an earlier version of onnx"
PROJECTED = re.compile(r"initial_[hc] must have shape \{(.*),\d+\}. Actual:\{\1,\d+\}")  # of another width


class Fault(NamedTuple):
    """What ONNX Runtime says of a file; name and operator are empty where it names no node."""

    name: str
    op: str
    why: str


def fault(error: BaseException) -> Fault:
    """The node and the reason in an exception of ONNX Runtime."""
    text = " ".join(str(error).split()) or first_line(error)
    for form in NODES:
        if found := form.search(text):
            return Fault(found["name"] or found["op"], found["op"], _bare(found["why"], found["op"]))
    return Fault("", "", _bare(text))


def explained(error: BaseException) -> str:
    """The sentence for an exception of ONNX Runtime."""
    found = fault(error)
    if unknown := UNKNOWN.search(str(error)):
        return f"ONNX Runtime, which serves the file, has no operator {unknown['op']}, or not of this version. {NEWER}"
    if found.op == "LSTM" and PROJECTED.search(found.why):
        return REFUSALS["projection"].format(name=found.name, why=found.why)
    if found.op:
        return REFUSALS["broken"].format(name=found.name, op=found.op, why=found.why, do=_advice(found.why))
    return f"ONNX Runtime, which serves the file, cannot take it: {found.why}. {_advice(found.why)}"


def _advice(why: str) -> str:
    """What to do about a reason."""
    if "IR version" in why:
        return LATER
    if any(word in why.lower() for word in SIZES) and "Type Error" not in why:
        return MISMATCHED
    if "implementation for" in why or "opset" in why:
        return NEWER
    return CORRECT


def _bare(text: str, op: str = "") -> str:
    """The reason without what ONNX Runtime puts around it."""
    bare = AROUND.sub("", text).strip().rstrip(".").removeprefix(f"{op}: ")
    bare = bare.rpartition(" was false. ")[2]  # behind a condition of its source
    return f"an attribute or an input is not as it must be ({bare})" if bare.endswith(" was false") else bare
