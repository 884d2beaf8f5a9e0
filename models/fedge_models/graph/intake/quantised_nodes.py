# SPDX-License-Identifier: Apache-2.0
"""What each operator on quantised values means for the real values."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from ...protos import attribute
from .real_values import Work, along

if TYPE_CHECKING:
    import onnx

PLAIN = {"QLinearAdd": "Add", "QLinearMul": "Mul"}  # of com.microsoft, with two quantised values
SINGLE = {
    "QLinearAveragePool": "AveragePool",
    "QLinearGlobalAveragePool": "GlobalAveragePool",
    "QLinearLeakyRelu": "LeakyRelu",
    "QLinearSigmoid": "Sigmoid",
    "QLinearSoftmax": "Softmax",
}
WEIGHTS = {  # inputs that may be stored quantised tensors
    "ConvInteger": (1,),
    "DequantizeLinear": (0,),
    "MatMulInteger": (1,),
    "QGemm": (3,),
    "QLinearConv": (3,),
    "QLinearMatMul": (0, 3),
}


def weights_of(node: onnx.NodeProto) -> tuple[int, ...]:
    """Inputs of a node that may be stored quantised tensors."""
    return WEIGHTS.get(node.op_type, ())


def _given(node: onnx.NodeProto, name: str, default: Any) -> Any:
    return next((attribute(a) for a in node.attribute if a.name == name), default)


def _input(node: onnx.NodeProto, position: int) -> str:
    return str(node.input[position]) if position < len(node.input) else ""


def _quantize(work: Work, node: onnx.NodeProto) -> None:
    source = node.input[0]
    if source in work.fixed:
        work.as_it_is(source, node)
        return
    dequantised = {o for n in work.graph.node if node.output[0] in n.input for o in n.output}
    end = source in work.ends or bool(work.ends & dequantised) or _before_softmax(work, dequantised)
    maker = work.makers.get(source)
    if end and maker is not None and maker.op_type in ("Sigmoid", "Softmax"):
        work.same(source, node.output[0])
    else:
        work.within(source, node.input[1], _input(node, 2), node.output[0], end, _given(node, "output_dtype", 0))


def is_quantised(work: Work, node: onnx.NodeProto) -> bool:
    """Whether a node clips quantised values, as for fewer bits than their type has."""
    maker = work.makers.get(_input(node, 0)) if node.op_type == "Clip" else None
    return maker is not None and maker.op_type == "QuantizeLinear"


def clip(work: Work, node: onnx.NodeProto) -> None:
    """Bounds of quantised values as real ones; none for a weight."""
    maker = work.makers[node.input[0]]
    if maker.input[0] in work.fixed:
        work.same(node.input[0], node.output[0])
        return
    scale = float(work.number(maker.input[1]).item())
    zero = float(work.number(maker.input[2]).item()) if _input(maker, 2) else 0.0
    given = [_input(node, i) for i in (1, 2)]
    bounds = [work.bound((float(work.number(n).item()) - zero) * scale) if n else "" for n in given]
    work.add("Clip", node.input[0], *bounds, to=node.output)


def _before_softmax(work: Work, names: set[str]) -> bool:
    return any(
        n.op_type in ("QLinearSoftmax", "Softmax") and set(n.output) & work.ends and names & {*n.input}
        for n in work.graph.node
    )


def _dequantize(work: Work, node: onnx.NodeProto) -> None:
    axis, block = _given(node, "axis", 1), _given(node, "block_size", 0)
    source, to = node.input[0], node.output[0]
    if source in work.stored:
        work.other[to] = work.real(source, node.input[1], _input(node, 2), axis, block)
        return
    maker = work.makers.get(source)
    if maker is not None and maker.op_type in ("MatMulInteger", "ConvInteger"):
        raise ValueError("a sum of integers is dequantised")
    work.same(source, to)


def _dynamic(work: Work, node: onnx.NodeProto) -> None:
    """A value's own range is its range: nothing is left of it."""
    work.other[node.output[0]] = work.other.get(node.input[0], node.input[0])
    work.made[node.output[1]] = np.array(1, np.float32)


def _integers(work: Work, node: onnx.NodeProto) -> None:
    """A product of integers that is cast and scaled behind it; the scale of the weights becomes part of them."""
    weight, zero = node.input[1], _input(node, 3)
    scale, result = _scaled(work, node)
    if weight not in work.stored or scale not in work.stored:
        raise ValueError("its weights are computed")
    q = work.number(weight).astype(np.float64)
    conv = node.op_type == "ConvInteger"
    axis = 0 if conv else q.ndim - 1
    z = along(work.number(zero).astype(np.float64), q.shape, axis, 0) if zero else 0.0
    s = along(work.number(scale).astype(np.float64), q.shape, axis, 0)
    name = work.keep(weight, (q - z) * s)
    work.add("Conv" if conv else "MatMul", node.input[0], name, to=[result], like=node)


def _scaled(work: Work, node: onnx.NodeProto) -> tuple[str, str]:
    """Leave out the cast and the scaling behind a product of integers; return the weights' scale and the result."""
    name = node.output[0]
    for reader in work.graph.node:
        if name not in reader.input:
            continue
        work.left_out.add(reader.output[0])
        if reader.op_type == "Mul":
            other = next(n for n in reader.input if n != name)
            return str(next(n for n in work.makers[other].input if n in work.stored)), reader.output[0]
        if reader.op_type != "Cast":
            break
        name = reader.output[0]
    raise ValueError("its result is not scaled")


def _qlinear_conv(work: Work, node: onnx.NodeProto) -> None:
    x, xs, xz, w, ws, wz, ys, yz, *bias = node.input
    inputs = [work.real(x, xs, xz), work.real(w, ws, wz)]
    if bias and bias[0]:
        inputs.append(work.keep(bias[0], work.number(bias[0]) * work.number(xs).astype(float) * work.number(ws)))
    _ranged(work, node, "Conv", inputs, ys, yz)


def _qlinear_matmul(work: Work, node: onnx.NodeProto) -> None:
    a, as_, az, b, bs, bz, ys, yz = node.input
    _ranged(work, node, "MatMul", [work.real(a, as_, az, -2), work.real(b, bs, bz, -1)], ys, yz)


def _qgemm(work: Work, node: onnx.NodeProto) -> None:
    a, as_, az, b, bs, bz, *rest = node.input
    axis = 0 if _given(node, "transB", 0) else 1
    inputs = [work.real(a, as_, az), work.real(b, bs, bz, axis)]
    if rest and rest[0]:
        scale = work.number(as_).astype(float) * work.number(bs) * _given(node, "alpha", 1.0)
        inputs.append(work.keep(rest[0], work.number(rest[0]) * scale))
    if len(rest) > 1 and rest[1]:
        _ranged(work, node, "Gemm", inputs, rest[1], rest[2])
    else:
        work.add("Gemm", *inputs, to=node.output, like=node)


def _two(work: Work, node: onnx.NodeProto) -> None:
    a, as_, az, b, bs, bz, ys, yz = node.input
    _ranged(work, node, PLAIN[node.op_type], [work.real(a, as_, az), work.real(b, bs, bz)], ys, yz)


def _one(work: Work, node: onnx.NodeProto) -> None:
    x, _, _, ys, yz = node.input
    if _given(node, "channels_last", 0):
        raise ValueError("channels are last")
    _ranged(work, node, SINGLE[node.op_type], [x], ys, yz, leave=("channels_last", "opset"))


def _concat(work: Work, node: onnx.NodeProto) -> None:
    ys, yz, *parts = node.input
    threes = zip(parts[::3], parts[1::3], parts[2::3], strict=True)
    _ranged(work, node, "Concat", [work.real(q, s, z) for q, s, z in threes], ys, yz)


def _ranged(
    work: Work, node: onnx.NodeProto, op: str, inputs: list[str], scale: str, zero: str, leave: tuple[str, ...] = ()
) -> None:
    """Add the float operator, and the range of its quantised result."""
    raw = f"{node.output[0]}.unlimited"
    work.add(op, *inputs, to=[raw], like=node, leave=leave)
    read = [n for n in work.graph.node if node.output[0] in n.input]
    end = any(work.ends & {*n.output} for n in read) or _before_softmax(work, {o for n in read for o in n.output})
    work.within(raw, scale, zero, node.output[0], end)


NODES: dict[str, Callable[[Work, Any], None]] = {
    "ConvInteger": _integers,
    "DequantizeLinear": _dequantize,
    "DynamicQuantizeLinear": _dynamic,
    "MatMulInteger": _integers,
    "QGemm": _qgemm,
    "QLinearAdd": _two,
    "QLinearAveragePool": _one,
    "QLinearConcat": _concat,
    "QLinearConv": _qlinear_conv,
    "QLinearGlobalAveragePool": _one,
    "QLinearLeakyRelu": _one,
    "QLinearMatMul": _qlinear_matmul,
    "QLinearMul": _two,
    "QLinearSigmoid": _one,
    "QLinearSoftmax": _one,
    "QuantizeLinear": _quantize,
}
