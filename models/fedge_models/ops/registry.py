"""Which ONNX operators can be trained. To add one: a function in its family's file and a line here."""

from __future__ import annotations

from . import activation, conv, linear, pool, shape
from .operator import Operator

OPERATORS: dict[str, Operator] = {
    "Add": linear.add,
    "AveragePool": pool.average_pool,
    "Concat": shape.concat,
    "Conv": conv.conv,
    "Div": linear.div,
    "Elu": activation.elu,
    "Flatten": shape.flatten,
    "Gemm": linear.gemm,
    "GlobalAveragePool": pool.global_average_pool,
    "Identity": shape.identity,
    "LeakyRelu": activation.leaky_relu,
    "MatMul": linear.matmul,
    "MaxPool": pool.max_pool,
    "Mul": linear.mul,
    "ReduceMean": shape.reduce_mean,
    "Relu": activation.relu,
    "Reshape": shape.reshape,
    "Sigmoid": activation.sigmoid,
    "Softmax": activation.softmax,
    "Squeeze": shape.squeeze,
    "Sub": linear.sub,
    "Tanh": activation.tanh,
    "Transpose": shape.transpose,
    "Unsqueeze": shape.unsqueeze,
}
