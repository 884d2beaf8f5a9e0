# SPDX-License-Identifier: Apache-2.0
"""Scores, errors, sizes and rules of a study in words, as its text and its page show them. Pure."""

from __future__ import annotations

import numpy as np

from .estimate import Estimate
from .rule_choice import DEFAULT, UNPROTECTED

METRICS = {
    "macro_f1": "macro-F1, from 0 to 1; 1 is perfect",
    "auroc": "AUROC; 1 tells every anomaly from normal, 0.5 is chance",
    "average_precision": "average precision, from 0 to 1; 1 is perfect",
    "rmse": "RMSE, the usual error in the target's unit; less is better",
}
NAMES = {"macro_f1": "macro-F1", "auroc": "AUROC", "average_precision": "average precision", "rmse": "RMSE"}
PEOPLE = {DEFAULT: "the default", UNPROTECTED: "FedAvg without trust", "fedavg": "FedAvg with trust"}
LISTED = 6  # names of sites in a sentence
ROUNDS_TO_0 = 0.0005  # below: it has no sign
LEAST_SHOWN = 0.001  # of an error: 0.000 would say that there is none


def score(value: float) -> str:
    """A score as people read it."""
    return "unknown" if not np.isfinite(value) else f"{value:.3f}" if abs(value) < 10 else f"{value:.4g}"


def signed(found: Estimate) -> str:
    """A difference with its error."""
    if not np.isfinite(found.mean):
        return "unknown"
    mean = found.mean if abs(found.mean) >= ROUNDS_TO_0 else 0.0
    text = f"{mean:+.3f}" if abs(mean) < 10 else f"{mean:+.4g}"
    if not found.known:
        return f"{text}, error unknown"
    return f"{text} ± {error(found)}"


def error(found: Estimate) -> str:
    """The error of a difference."""
    return f"{max(LEAST_SHOWN, found.error):.3f}" if found.error < 10 else f"{found.error:.3g}"


def percent(share: float) -> str:
    """A share as people read it."""
    return f"{100 * share:.0f} %"


def people(rule: str) -> str:
    """A rule's name in a sentence."""
    return PEOPLE.get(rule, rule.replace("-no-trust", " without trust").replace("_", " "))


def listed(names: list[str]) -> str:
    """Names in a sentence; of many the first."""
    more = f" and {len(names) - LISTED} more" if len(names) > LISTED else ""
    return ", ".join(names[:LISTED]) + more


def size(count: float) -> str:
    """Bytes as people read them."""
    for unit in ("B", "KiB", "MiB"):
        if count < 1024:
            return f"{count:.0f} {unit}" if unit == "B" or count >= 10 else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} GiB"
