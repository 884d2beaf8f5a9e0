# SPDX-License-Identifier: Apache-2.0
"""Why a gateway sends no update: one word of a fixed list, which it may add when it asks for the newest release.

It says nothing of values. A gateway with a privacy budget leaves out whatever depends on its samples.
"""

from __future__ import annotations

import enum


class Idle(str, enum.Enum):
    """Why there is no update of a gateway."""

    NO_SAMPLES = "no_samples"
    NO_LABELS = "no_labels"
    FEW_SAMPLES = "few_samples"
    MODEL = "model"  # it has no model file that it can train, or waits for a restart to take it
    PRIVACY = "privacy"
    DIVERGED = "diverged"


OF_DATA = (Idle.NO_SAMPLES, Idle.NO_LABELS, Idle.FEW_SAMPLES)
WORDS = {
    Idle.NO_SAMPLES: "no samples yet",
    Idle.NO_LABELS: "samples, but no labels",
    Idle.FEW_SAMPLES: "too few samples",
    Idle.MODEL: "no model that it can train",
    Idle.PRIVACY: "its privacy budget is spent",
    Idle.DIVERGED: "its training diverged",
}


def parse(word: str) -> Idle | None:
    """The reason that a word stands for; None for anything else, as a newer gateway may know more."""
    try:
        return Idle(word)
    except ValueError:
        return None
