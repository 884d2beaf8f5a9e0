# SPDX-License-Identifier: Apache-2.0
"""The page of a demo or a simulation: one HTML file with charts as inline SVG that loads nothing and runs no script.

It fits a desk and a phone, light and dark. What is shown, and what it means, is left to those who make a `Report`.
"""

from __future__ import annotations

from .dot_chart import Dot, DotChart, DotRow
from .line_chart import Line, LineChart
from .page import Block, Promise, Report, render
from .scale import BaseLine
from .tables import Cell, Details, Note, Table

__all__ = [
    "BaseLine",
    "Block",
    "Cell",
    "Details",
    "Dot",
    "DotChart",
    "DotRow",
    "Line",
    "LineChart",
    "Note",
    "Promise",
    "Report",
    "Table",
    "render",
]
