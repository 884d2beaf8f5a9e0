# SPDX-License-Identifier: Apache-2.0
"""Trigonometric and hyperbolic functions, each with its derivative (Abramowitz & Stegun 1964, chapter 4)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from .operator import Array, Backprop, Node, Operator


def smooth(function: Callable[[Array], Array], slope: Callable[[Any, Any], Any], what: str) -> Operator:
    """Make an operator from a function y of x and its derivative, as a function of x and y."""

    def run(node: Node, x: Array) -> tuple[Array, Backprop]:
        y = function(x)
        return y, lambda dy: (dy * slope(x, y),)

    run.__doc__ = what
    return run


sin = smooth(np.sin, lambda x, y: np.cos(x), "Sine.")
cos = smooth(np.cos, lambda x, y: -np.sin(x), "Cosine.")
tan = smooth(np.tan, lambda x, y: 1 + y * y, "Tangent.")
asin = smooth(np.arcsin, lambda x, y: 1 / np.sqrt(1 - x * x), "The angle of a sine.")
acos = smooth(np.arccos, lambda x, y: -1 / np.sqrt(1 - x * x), "The angle of a cosine.")
atan = smooth(np.arctan, lambda x, y: 1 / (1 + x * x), "The angle of a tangent.")
sinh = smooth(np.sinh, lambda x, y: np.cosh(x), "Hyperbolic sine.")
cosh = smooth(np.cosh, lambda x, y: np.sinh(x), "Hyperbolic cosine.")
asinh = smooth(np.arcsinh, lambda x, y: 1 / np.sqrt(x * x + 1), "Inverse of the hyperbolic sine.")
acosh = smooth(np.arccosh, lambda x, y: 1 / np.sqrt(x * x - 1), "Inverse of the hyperbolic cosine.")
atanh = smooth(np.arctanh, lambda x, y: 1 / (1 - x * x), "Inverse of the hyperbolic tangent.")
