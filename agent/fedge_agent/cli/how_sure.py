# SPDX-License-Identifier: Apache-2.0
"""How sure a model's decisions are, in words: what its intervals hold for, how its probabilities fit."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

SHOWN = 3  # targets or labels; all of them are in --json


def intervals(entry: Mapping[str, Any] | None) -> str:
    """What the bounds of a model's estimates hold for, and how wide they are; empty where it has no estimates."""
    if entry is None:
        return ""
    unit, part = entry["unit"], f"{100 * entry['confidence']:.3g} %"
    if not entry["for"]:
        return f"no bounds: too few held-back samples with a label, and no held-back {unit}"
    margins = ", ".join(f"{n} {low:+.3g} to {high:+.3g}" for n, (low, high) in list(entry["margins"].items())[:SHOWN])
    if entry["for"] == "same unit":
        return f"bounds hold {part} of the same {unit}s only ({margins})"
    by = [f"{n} held-back {unit}{'s' if n > 1 else ''}"] if (n := entry["units"]) else []
    by += ["what other sites report of theirs"] if entry["other_sites"] else []
    return f"bounds hold {part} of a new {unit}, by {' and '.join(by)} ({margins})"


def calibration(entry: Mapping[str, Any] | None) -> str:
    """How probabilities are made to fit this site, and what that gains on units it was not fitted on."""
    if entry is None:
        return ""
    by = ""
    if entry["error"] is not None:
        before, after = (f"{100 * error:.2g} %" for error in entry["error"])
        change = before if entry["why_none"] else f"{after}, {before} before"
        by = f" (off by {change}, by {entry['samples']} samples of {entry['units']} held-back units)"
    if entry["why_none"]:
        return f"probabilities as the model says: {entry['why_none']}{by}"
    biases = " and a bias of each class" if any(entry["biases"].values()) else ""
    if of_labels := {name: t for name, t in entry["temperatures"].items() if t != 1 or entry["biases"][name]}:
        shown = ", ".join(f"{name} {t:.3g}" for name, t in list(of_labels.items())[:SHOWN])
        more = f" and {len(of_labels) - SHOWN} more" if len(of_labels) > SHOWN else ""
        biases = " and a bias" if any(entry["biases"].values()) else ""
        return f"probabilities calibrated label by label with a temperature{biases} ({shown}{more}){by}"
    return f"probabilities calibrated with temperature {entry['temperature']:.3g}{biases}{by}"
