# SPDX-License-Identifier: Apache-2.0
"""The figures of decisions and events, from the table that all outputs read."""

from __future__ import annotations

from fedge_agent.figures import FIGURES, Of

from .markdown import code, table


def page() -> str:
    """A row a figure: its type and unit, and whether an event or a decision has it."""
    rows = [(code(f.name), f.type.value, f.unit, _where(f.of), f.meaning) for f in FIGURES]
    return table(("figure", "type", "unit", "of", "meaning"), rows)


def _where(of: Of) -> str:
    names = {Of.DECISION: "decision", Of.EVENT: "event", Of.ALERT: "live view"}
    return ", ".join(name for flag, name in names.items() if flag in of)
