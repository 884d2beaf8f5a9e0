# SPDX-License-Identifier: Apache-2.0
"""Refuse files that nothing can be trained of here, in a sentence that says what the file is and what to do.

Each kind has one sentence. The page "your own model" of the docs shows all of them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NoReturn

from ..errors import ModelError

if TYPE_CHECKING:
    import onnx

REFUSALS = {
    "trees": "{op}: these are trees (a forest, boosting), which have no gradient, so no federation can improve them. "
    "Train a small network on the same features instead",
    "kernel": "{op}: this is a support vector machine, which stores its own training samples, and those must not leave "
    "a site. Train a linear model (LogisticRegression, LinearSVC) or a small network instead",
    "text": "input {name!r} takes {what}: this is a model of text, and a gateway gives measured values. Take a network "
    "whose inputs are numbers",
    "categories": "{op} reads names of categories, and a gateway gives numbers. Let a channel give a number for each "
    "category, train the pipeline on these numbers, and export it again",
    "control flow": "node {name!r} ({op}) has a graph inside, a branch or a loop, whose weights cannot be trained. "
    "Export without: in PyTorch by tracing and not torch.jit.script, in Keras with unroll=True",
    "opset": "has opset {opset}, expected 7 or newer. Export it again with opset 17",
    "optimised": "node {name!r} ({op} of {domain}) exists in one runtime only: an optimiser wrote this file. Take the "
    "file as the exporter wrote it",
    "quantised": "node {name!r} ({op} of {domain}) is of a file that was quantised for one runtime. Take the float "
    "file, or quantise it with quant_format=QuantFormat.QDQ",
    "fallback": "node {name!r} ({op} of {domain}) is an operator of PyTorch that the exporter did not translate. "
    "Export with dynamo=True, or replace that layer",
    "format": "this is {what}, not an ONNX file. {do}",
    "outputs": "has {count} outputs: {outputs}. Choose one on the card: output = {first!r}{fits}",
    "broken": "ONNX Runtime, which serves the file, cannot load it: the exporter wrote a node {name!r} ({op}) whose "
    "inputs do not fit each other. Export it another way, in PyTorch with dynamo=True: TorchScript does so for unfold",
    "inputs": "has {count} inputs: {inputs}. Say on the card what each takes: inputs = [{{ name = {first!r}, "
    "channels = […] }}, …], or a value instead of channels for a constant",
    "one value": "gives one value for {labels} labels by {op}. Expected its logit or a Sigmoid for two labels, else a "
    "value for each label",
}

RUNTIMES = ("com.microsoft", "com.ms.", "ai.onnx.contrib", "nchwc", "com.nvidia", "trt.")
QUANTISED = ("QLinear", "QGemm", "QAttention", "QEmbed", "DynamicQuantize", "MatMulInteger", "MatMulNBits", "QOrdered")
FALLBACKS = ("org.pytorch", "aten", "prim", "torch")


def refuse(kind: str, where: str, **found: object) -> NoReturn:
    """Raise ModelError with the sentence of a kind."""
    raise ModelError(f"{where}: {REFUSALS[kind].format(**found)}")


def kind_of(proto: onnx.NodeProto) -> str | None:
    """What kind of file a node that is not standard tells of; None for an operator of the standard."""
    if proto.domain in ("", "ai.onnx", "ai.onnx.ml"):
        return None
    if proto.domain.startswith(FALLBACKS):
        return "fallback"
    if not any(part in proto.domain for part in RUNTIMES):
        return None
    return "quantised" if proto.op_type.startswith(QUANTISED) else "optimised"
