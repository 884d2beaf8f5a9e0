# SPDX-License-Identifier: Apache-2.0
"""Hold back a part of each site's training data, as a gateway does, to judge its models by.

Whole units where a set names some (experiments, tool runs, cells, engines: its validation cut), else the last fifth of
each class, or of all rows.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from .problems.problem import Problem
from .site_data import Windows

PART = 5  # one row in so many


def holding_back(problem: Problem) -> Problem:
    """Return the same problem with a part of the training rows held back at each site."""
    sites = {name: replace(site, held=_held(problem, name, site)) for name, site in problem.sites.items()}
    return replace(problem, sites=sites)


def _held(problem: Problem, name: str, site: Windows) -> NDArray[np.bool_]:
    units = problem.validation.get(name)
    if units is not None and (units & ~site.test).any():
        return units & ~site.test
    found = np.zeros(len(site.test), np.bool_)
    rows = np.flatnonzero(~site.test)
    classes = [rows]
    if problem.card.task == "classify":
        classes = [rows[site.y[rows] == c] for c in np.unique(site.y[rows])]
    for own in classes:
        found[own[len(own) - max(1, len(own) // PART) :]] = True
    return found
