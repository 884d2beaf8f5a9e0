# SPDX-License-Identifier: Apache-2.0
"""Networks of convolutions as exporters write them (BatchNormalization folded), and PyTorch running the same graphs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from fedge_models.graph.card import Card, Channel, WindowSpec, write_card
from onnx import TensorProto, helper, numpy_helper

CLASSES = 4


class Net:
    """Collects the nodes of a graph; each method adds to the last value and returns the name of its own."""

    def __init__(self, channels: int, *spatial: int) -> None:
        self.shape, self.nodes, self.tensors = (channels, *spatial), [], []  # type: ignore[var-annotated]
        self.rng, self.last, self.width = np.random.default_rng(0), "x", channels

    def add(self, op_type: str, *inputs: str, **attributes: Any) -> str:
        """Add a node that reads the last value, then `inputs`."""
        name = f"v{len(self.nodes)}"
        self.nodes.append(helper.make_node(op_type, [self.last, *inputs], [name], name=name, **attributes))
        self.last = name
        return name

    def tensor(self, *shape: int) -> str:
        """Add a weight (He et al. 2015) or, with one axis, a bias."""
        value = self.rng.normal(0, (2 / np.prod(shape[1:])) ** 0.5 if len(shape) > 1 else 0.01, shape)
        self.tensors.append(numpy_helper.from_array(value.astype(np.float32), f"t{len(self.tensors)}"))
        return f"t{len(self.tensors) - 1}"

    def conv(self, outputs: int, kernel: int, stride: int = 1, group: int = 1, dilation: int = 1) -> str:
        """Add a convolution that keeps the size, but for its stride."""
        axes = len(self.shape) - 1
        w = self.tensor(outputs, self.width // group, *[kernel] * axes)
        more = {"strides": [stride] * axes, "dilations": [dilation] * axes, "group": group}
        self.width = outputs
        return self.add("Conv", w, self.tensor(outputs), pads=[kernel // 2 * dilation] * 2 * axes, **more)

    def model(self) -> bytes:
        """Add a head and return the file."""
        self.add("GlobalAveragePool")
        self.add("Flatten")
        self.add("Gemm", self.tensor(CLASSES, self.width), self.tensor(CLASSES), transB=1)
        ends = [("x", ["n", *self.shape]), (self.last, ["n", CLASSES])]
        values = [[helper.make_tensor_value_info(n, TensorProto.FLOAT, s)] for n, s in ends]
        graph = helper.make_graph(self.nodes, "net", *values, self.tensors)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
        channels = tuple(Channel(f"c{i}") for i in range(self.shape[0]))
        labels = tuple(f"l{i}" for i in range(CLASSES))
        write_card(model, Card("classify", channels, WindowSpec(1, self.shape[1], 1), labels=labels))
        return model.SerializeToString()


def _residual(net: Net, outputs: int, stride: int = 1, kernel: int = 3, dilation: int = 1) -> None:
    """A basic block (He et al. 2016)."""
    before, inputs = net.last, net.width
    net.conv(outputs, kernel, stride, dilation=dilation)
    net.add("Relu")
    inner = net.conv(outputs, kernel, dilation=dilation)
    if stride > 1 or inputs != outputs:
        net.last, net.width = before, inputs
        before = net.conv(outputs, 1, stride)
        net.last = inner
    net.add("Add", before)
    net.add("Relu")


def resnet_64() -> Net:
    """Three stages of 16, 32 and 64 channels on pictures of 64 x 64."""
    net = Net(1, 64, 64)
    net.conv(16, 3)
    net.add("Relu")
    for outputs, stride in ((16, 1), (32, 2), (64, 2)):
        _residual(net, outputs, stride)
    return net


def resnet18(side: int = 64) -> Net:
    """ResNet-18 with 11.2 million parameters."""
    net = Net(3, side, side)
    net.conv(64, 7, 2)
    net.add("Relu")
    net.add("MaxPool", kernel_shape=[3, 3], strides=[2, 2], pads=[1] * 4)
    for i, outputs in enumerate((64, 128, 256, 512)):
        _residual(net, outputs, 2 if i else 1)
        _residual(net, outputs)
    return net


def depthwise() -> Net:
    """Inverted residuals of MobileNetV2 (Sandler et al. 2018) on pictures of 64 x 64."""
    net = Net(1, 64, 64)
    net.tensors += [numpy_helper.from_array(np.float32(v), n) for n, v in (("zero", 0), ("six", 6))]
    net.conv(16, 3, 2)
    for outputs, stride in ((24, 2), (24, 1), (32, 2), (32, 1), (64, 2)):
        before, inputs = net.last, net.width
        net.conv(6 * inputs, 1)
        net.add("Clip", "zero", "six")
        net.conv(net.width, 3, stride, net.width)
        net.add("Clip", "zero", "six")
        net.conv(outputs, 1)
        if outputs == inputs and stride == 1:
            net.add("Add", before)
    return net


def grouped() -> Net:
    """Convolutions in groups of 8 channels (ResNeXt: Xie et al. 2017) on pictures of 64 x 64."""
    net = Net(1, 64, 64)
    net.conv(32, 3, 2)
    for outputs, stride, group in ((64, 1, 4), (64, 1, 8), (64, 2, 8)):
        net.add("Relu")
        net.conv(outputs, 3, stride, group)
    net.add("Relu")
    return net


def tcn() -> Net:
    """A temporal convolutional network (Bai et al. 2018) on 3 channels of 256 samples."""
    net = Net(3, 256)
    for dilation in (1, 2, 4, 8):
        _residual(net, 32, dilation=dilation)
    return net


# Name to network, batch and batches of an epoch.
NETS: dict[str, tuple[Callable[[], Net], int, int]] = {
    "resnet_64": (resnet_64, 32, 4),
    "resnet18": (resnet18, 8, 4),
    "depthwise": (depthwise, 32, 8),
    "grouped": (grouped, 32, 4),
    "tcn": (tcn, 32, 16),
}


LAYOUTS = ("contiguous_format", "channels_last")  # PyTorch is faster with one or the other


def torch_step(net: Net, optimizer: str, layout: str) -> Callable[[Any, Any], object]:
    """Return a step of PyTorch on the graph, on one thread, with its fused optimiser."""
    import torch

    def tensor(array: np.ndarray) -> Any:
        made = torch.from_numpy(array.copy())
        return made.to(memory_format=getattr(torch, layout)) if made.ndim == 4 else made

    torch.set_num_threads(1)
    values = {t.name: tensor(numpy_helper.to_array(t)) for t in net.tensors}
    trained = [v.requires_grad_() for v in values.values() if v.ndim]
    if optimizer == "adam":
        step: Any = torch.optim.Adam(trained, lr=0.001, fused=True)
    else:
        step = torch.optim.SGD(trained, lr=0.001, momentum=0.9, fused=True)
    nodes = [(n, {a.name: helper.get_attribute_value(a) for a in n.attribute}) for n in net.nodes]

    def run(x: Any, y: Any) -> None:
        step.zero_grad(set_to_none=True)
        found = {**values, "x": tensor(x)}
        for node, attributes in nodes:
            found[node.output[0]] = _torch_node(torch, node.op_type, attributes, [found[i] for i in node.input])
        torch.nn.functional.cross_entropy(found[net.last], torch.from_numpy(y)).backward()
        step.step()

    return run


def _torch_node(torch: Any, op_type: str, attributes: dict[str, Any], values: Sequence[Any]) -> Any:
    f, x = torch.nn.functional, values[0]
    if op_type == "Conv":
        kind, axes = (f.conv2d if x.ndim == 4 else f.conv1d), x.ndim - 2
        return kind(
            *values, attributes["strides"], attributes["pads"][:axes], attributes["dilations"], attributes["group"]
        )
    if op_type == "MaxPool":
        return f.max_pool2d(x, attributes["kernel_shape"], attributes["strides"], attributes["pads"][:2])
    if op_type == "GlobalAveragePool":
        return f.adaptive_avg_pool2d(x, 1) if x.ndim == 4 else f.adaptive_avg_pool1d(x, 1)  # twice as fast as a mean
    if op_type == "Gemm":
        return f.linear(*values)
    plain = {"Relu": f.relu, "Add": torch.add, "Clip": lambda v, *_: f.hardtanh(v, 0, 6), "Flatten": torch.flatten}
    return plain[op_type](*values, 1) if op_type == "Flatten" else plain[op_type](*values)
