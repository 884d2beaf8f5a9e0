# SPDX-License-Identifier: Apache-2.0
"""A frozen MobileNetV2-like trunk (Sandler et al. 2018, width 1, random weights) with a small head: memory and time.

In a process of its own with nothing else loaded: peak resident memory of the whole, the first epoch (every image goes
through the trunk) and the following ones (their activations are kept).
"""

from __future__ import annotations

from _common import arguments, finish, table  # isort: skip  # sets the BLAS threads first

import resource
import time
from typing import Any

import numpy as np
from fedge_models.graph.card import Card, Channel, WindowSpec, write_card
from fedge_models.graph.trainable import TrainableGraph
from fedge_models.system import malloc
from fedge_models.training.config import TrainingConfig
from fedge_models.training.loop import fit
from onnx import TensorProto, helper, numpy_helper

# (expansion, channels, repeats, stride): table 2 of the paper
BLOCKS = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))
SIDE, CLASSES = 96, 4


class _Net:
    """Collects the nodes of the graph."""

    def __init__(self) -> None:
        self.rng, self.nodes, self.tensors, self.last = np.random.default_rng(0), [], [], "x"  # type: ignore[var-annotated]

    def tensor(self, *shape: int) -> str:
        scale = (2 / max(1, int(np.prod(shape[1:])))) ** 0.5
        name = f"trunk.t{len(self.tensors)}"
        value = (self.rng.normal(size=shape) * scale).astype(np.float32)
        self.tensors.append(numpy_helper.from_array(value, name))
        return name

    def add(self, op_type: str, *inputs: str, **attributes: Any) -> None:
        out = f"v{len(self.nodes)}"
        self.nodes.append(helper.make_node(op_type, [self.last, *inputs], [out], **attributes))
        self.last = out

    def conv(self, before: int, after: int, kernel: int, stride: int = 1, group: int = 1, relu: bool = True) -> None:
        pads = [kernel // 2] * 4
        weight, bias = self.tensor(after, before // group, kernel, kernel), self.tensor(after)
        self.add("Conv", weight, bias, strides=[stride, stride], pads=pads, group=group)
        if relu:
            self.add("Clip", "zero", "six")


def mobilenet() -> bytes:
    """Build the whole model with its head."""
    net = _Net()
    net.tensors += [numpy_helper.from_array(np.float32(v), n) for n, v in (("zero", 0), ("six", 6))]
    net.conv(1, 32, 3, 2)
    before = 32
    for expansion, after, repeats, first in BLOCKS:
        for k in range(repeats):
            shortcut, stride, wide = net.last, first if k == 0 else 1, before * expansion
            if expansion > 1:
                net.conv(before, wide, 1)
            net.conv(wide, wide, 3, stride, wide)
            net.conv(wide, after, 1, relu=False)
            if stride == 1 and before == after:
                net.add("Add", shortcut)
            before = after
    net.conv(before, 1280, 1)
    net.add("GlobalAveragePool")
    net.add("Flatten")
    for name, shape in (
        ("head.w1", (1280, 32)),
        ("head.b1", (32,)),
        ("head.w2", (32, CLASSES)),
        ("head.b2", (CLASSES,)),
    ):
        value = (net.rng.normal(size=shape) * 0.03).astype(np.float32)
        net.tensors.append(numpy_helper.from_array(value, name))
    net.add("Gemm", "head.w1", "head.b1")
    net.add("Relu")
    net.add("Gemm", "head.w2", "head.b2")
    ends = [("x", ["n", 1, SIDE, SIDE]), (net.last, ["n", CLASSES])]
    x, y = (helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in ends)
    graph = helper.make_graph(net.nodes, "mobilenet", [x], [y], net.tensors)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    labels = tuple(f"l{i}" for i in range(CLASSES))
    write_card(model, Card("classify", (Channel("grey"),), WindowSpec(1, 1, 1), labels=labels, trainable="head.*"))
    return model.SerializeToString()


def main() -> None:
    """Print the table. The parent writes the model, so that the measured process only reads it, as a gateway does."""
    import subprocess
    import sys
    import tempfile
    from pathlib import Path

    if sys.argv[1:2] == ["child"]:
        child(Path(sys.argv[2]), int(sys.argv[3]))
        return
    args = arguments(__doc__ or "")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "m.onnx"
        path.write_bytes(mobilenet())
        command = [sys.executable, __file__, "child", str(path), "100" if args.quick else "400"]
        out = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    figures = dict(
        zip(("peak_rss_mb", "first_epoch_ms_image", "later_epoch_ms_image"), map(float, out.split()), strict=True)
    )
    table(["figure", "value"], [[k, f"{v:.3g}"] for k, v in figures.items()])
    finish("trunk", figures, args.json)


def child(path: Any, images: int) -> None:
    """Run the measured process, set up as the agent is."""
    malloc.return_large_blocks()
    graph = TrainableGraph.load(path.read_bytes(), schemas=False)
    rng = np.random.default_rng(0)
    x = rng.integers(0, 256, (images, 1, SIDE, SIDE), np.uint8).astype(np.float32) / np.float32(255)
    y = rng.integers(0, CLASSES, images)
    times = []
    for _ in range(3):
        began = time.perf_counter()
        fit(graph, x, y, TrainingConfig(epochs=1), rng)
        times.append((time.perf_counter() - began) / images * 1000)
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, times[0], min(times[1:]))


if __name__ == "__main__":
    main()
