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
    "kernel": "{op}: this is a support vector machine, which stores its own training samples, and those must not "
    "leave a site. Train a linear model (LogisticRegression, LinearSVC) or a small network instead",
    "text": "input {name!r} takes {what}: this is a model of text, and a gateway gives measured values. Take a "
    "network whose inputs are numbers",
    "categories": "{op} reads names of categories, and a gateway gives numbers. Let a channel give a number for each "
    "category, train the pipeline on these numbers, and export it again",
    "control flow": "node {name!r} ({op}) has a graph inside, a branch or a loop, and {why}. Export without: in "
    "PyTorch without torch.cond and torch.while_loop (torch.where chooses without a branch), in Keras with unroll=True",
    "sequence": "node {name!r} ({op}) handles a list of tensors, or a value that may be absent, and constants and "
    "shapes do not tell what is in it. Export with torch.cat or torch.stack of a fixed number of tensors in its place",
    "list input": "input {name!r} is {what}, and a gateway gives one tensor of numbers: a window, or its features. "
    "Export the network so that it takes such a tensor, all sequences of the window's length",
    "random": "node {name!r} ({op}) draws random numbers, so one window would be decided differently each time. "
    "Export without: net.eval(); a VAE that returns its mean in place of a sample; a recurrent state that begins with "
    "zeros; noise and random choices (Gumbel) only where self.training",
    "mixed": "gives for two samples at once something else than for each of them alone, first at node {name!r} "
    "({op}): it calculates over the samples of a batch, and a gateway decides on one window at a time. A BatchNorm "
    "without running statistics does so: export with track_running_stats=True and net.eval(). Let means, norms and "
    "attention (batch_first=True) run within each sample",
    "fixed batch": "gives for two samples at once something else than for each of them alone, first at node {name!r} "
    "({op}): it may hold the size of the batch that it was exported for, or calculate over the samples of a batch. "
    "Export it with a variable batch: {how}",
    "larger batch": "was exported for a batch of {batch}, which its nodes hold, and runs with no other. Export it "
    "with a variable batch: no number of samples in the code, and in PyTorch dynamic_shapes={{'x': {{0: 'batch'}}}} "
    "for the input x",
    "loop": "node {name!r} ({op}) is a loop, and {why}. Export it with a fixed number of steps: in PyTorch a for over "
    "the window's length, in Keras unroll=True",
    "long loop": "node {name!r} ({op}) is a loop of {size} nodes that repeats so often that there would be more than "
    "{most}. Take a shorter window, or a layer of your framework that is one node: LSTM, GRU or RNN",
    "large graphs": "node {name!r} ({op}) and others like it hold graphs of {size} nodes in all, expected at most "
    "{most}. Export for shapes that are known: in PyTorch with dynamo=True, where no If remains, in Keras with "
    "unroll=True",
    "projection": "ONNX Runtime, which serves the file, cannot run node {name!r} (LSTM): {why}. This is an LSTM with "
    "proj_size, for which ONNX has no operator. Export without it; a Linear layer behind the LSTM may take its place",
    "no output": "has no output. Export it again; a tool that edited the file may have removed it",
    "constant": "output {name!r} does not depend on the input: it is stored, or computed from what is stored. Export "
    "the output of the network",
    "sizes": "tensor {name!r} says that its shape is {dims}, and holds {held} values: the file is damaged. Export or "
    "copy it again",
    "operator": "node {name!r} ({op}) is no operator of ONNX: the exporter did not translate that layer. Replace it "
    "by one that it can translate{do}",
    "removed": "node {name!r} ({op}) is an operator that ONNX has removed. Export it again with {do}",
    "function": "has a function of its own for {names}, and that is an operator, too: ONNX Runtime, which serves the "
    "file, runs its own operator, other tools run the function, and the two differ. Give the function another name or "
    "domain",
    "fitted": "is fitted, not trained by gradients, as naive Bayes, quadratic discriminant analysis and clusters are. "
    "Train a linear model (LogisticRegression) or a small network (MLPClassifier) instead",
    "neighbours": "node {name!r} ({op}) compares with stored training samples, as nearest neighbours, Gaussian "
    "processes and LocalOutlierFactor do: they are fitted, not trained by gradients, and these samples must not leave "
    "a site. Train a linear model (LogisticRegression, Ridge) or a small network (MLPClassifier, MLPRegressor) instead",
    "score": "gives {found} for a sample, a score of outliers or clusters: such a model is fitted, not trained by "
    "gradients, and task anomaly wants a reconstruction of the input, {wanted}. Train an autoencoder instead, in "
    "scikit-learn an MLPRegressor that is fitted to give its own input",
    "label list": "gives a list of the probabilities of {count} labels, of which several may hold, as "
    "MultiOutputClassifier does. Write task = 'multilabel' and these {count} labels on the card",
    "steps": "no weight gets a gradient: the output {name!r} comes of {op}, and on the way to it there are only "
    "steps, whole numbers or texts. Export what these are made from: the logits, or the probabilities",
    "votes": "no weight of a layer gets a gradient: behind node {name!r} ({op}) there are only steps (ArgMax, a "
    "comparison), as AdaBoost counts the votes of its classifiers. Train a linear model (LogisticRegression) or a "
    "small network instead",
    "opset": "has opset {opset}, expected 7 or newer. Export it again with opset 17",
    "no opset": "has operators of {domain} ({op}), and states no opset of it, which decides what they calculate. "
    "Export it again; a tool that edited the file may have removed it",
    "optimised": "node {name!r} ({op} of {domain}) exists in one runtime only: an optimiser wrote this file. Take the "
    "file as the exporter wrote it",
    "quantised": "node {name!r} ({op} of {domain}) is of a file that was quantised for one runtime. Take the float "
    "file, or quantise it with quant_format=QuantFormat.QDQ",
    "fallback": "node {name!r} ({op} of {domain}) is an operator of PyTorch that the exporter did not translate. "
    "Export with dynamo=True, or replace that layer",
    "format": "this is {what}, not an ONNX file. {do}",
    "outputs": "has {count} outputs: {outputs}. Choose one on the card: output = {first!r}{fits}",
    "broken": "ONNX Runtime, which serves the file, cannot run node {name!r} ({op}): {why}. {do}",
    "left inputs": "input {name!r} is a value of a layer that the exporter left outside the file, as it does for a "
    "Normalization of Keras, so its mean and variance are not in the file. Export the network without that layer, and "
    "give them on the card: centre and scale (the square root of the variance) of each channel",
    "inputs": "has {count} inputs: {inputs}. Say on the card what each takes: inputs = [{{ name = {first!r}, channels "
    "= […] }}, …], or a value instead of channels for a constant",
    "label order": "names its labels {names}, the card has {labels}, and there is no score for each that could be put "
    "in the card's order. Write the card's labels in the file's order",
    "one value": "gives one value for {labels} labels by {op}. Expected its logit or a Sigmoid for two labels, else a "
    "value for each label",
}

ONE_SAMPLE = (  # what was exported for a batch of one, where that could not be changed
    "runs with one sample, but not with two, so it was exported for a batch of one ({why}). Export it with a variable "
    "batch: {how}"
)
VARIABLE_BATCH = {  # by who wrote the file; of others, as PyTorch wants it
    "jax2onnx": "in jax2onnx with a name for its size, inputs=[('B', …)]",
    "tf2onnx": "in Keras with an Input whose batch_size is not given, and an input_signature of None for it",
}
OF_PYTORCH = "in PyTorch with an example of two samples and dynamic_shapes={'x': {0: 'batch'}} for the input x"

RUNTIMES = ("com.microsoft", "com.ms.", "ai.onnx.contrib", "nchwc", "com.nvidia", "trt.")
QUANTISED = ("QLinear", "QGemm", "QAttention", "QEmbed", "DynamicQuantize", "MatMulInteger", "MatMulNBits", "QOrdered")
FALLBACKS = ("org.pytorch", "aten", "prim", "torch")


def variable_batch(producer: str) -> str:
    """How a tool exports a batch of any size."""
    return VARIABLE_BATCH.get(producer, OF_PYTORCH)


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
