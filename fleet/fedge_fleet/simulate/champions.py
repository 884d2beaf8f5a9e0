# SPDX-License-Identifier: Apache-2.0
"""What serves at each site: the tuned release with the site's own model, as a gateway makes them (`own_model`)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import msgspec
import numpy as np
from fedge_agent.learning.champion import choose
from fedge_agent.learning.mixture import Blend
from fedge_agent.learning.own_model import Pace, improved
from fedge_agent.learning.schedule import round_rate
from fedge_agent.learning.training import Data, usable
from fedge_models.graph.trainable import TrainableGraph

from ..data.member import Plan
from ..data.site_data import Floats, Windows
from . import baselines
from .loop import SiteModels

OWN_MODEL = 0.5  # the gateway's default


class Champion(NamedTuple):
    """A site's models after a federation: parameters (P,), and what serves."""

    own: Floats
    tuned: Floats
    serves: Blend


def champions(
    graph: TrainableGraph,
    start: Floats,
    made: SiteModels,
    sites: Mapping[str, Windows],
    plan: Plan,
    seed: int,
    share: float = OWN_MODEL,
    own: Mapping[str, Floats] | None = None,
) -> dict[str, Champion]:
    """Return the models of each site; its windows say what is held back.

    share: of the federation's epochs that the own model gets; own: own models that there are already, and depend on
    nothing else here.
    """
    tuned = baselines.tuned(graph, made, sites, plan, seed)
    found = {}
    for name, site in sites.items():
        data, held = _data(site, graph, held=False), _data(site, graph, held=True)
        mine = own[name] if own is not None else alone(graph, start, site, plan, seed, share)
        found[name] = Champion(mine, tuned[name], choose(graph, tuned[name], mine, data, held))
    return found


def alone(
    graph: TrainableGraph,
    start: Floats,
    site: Windows,
    plan: Plan,
    seed: int,
    share: float = OWN_MODEL,
    untrained: bool = True,
) -> Floats:
    """Return the own model (P,) of a site after the rounds of a plan, trained for a share of its epochs.

    untrained: the start has learnt nothing, so that the first training is not compared with it.
    """
    params, rng, pace = start, np.random.default_rng([seed, 2]), Pace(share, plan.training.epochs)
    data, held, first = _data(site, graph, held=False), _data(site, graph, held=True), untrained
    for version in range(1, plan.rounds + 1):
        epochs = pace.epochs()
        if not epochs:
            continue
        rate = round_rate(plan.training.learning_rate, plan.halving, version)
        how = msgspec.structs.replace(plan.training, epochs=epochs, learning_rate=rate)
        trained = improved(graph, params, data, held, how, rng, first=first)
        params, first = (params, first) if trained is None else (trained, False)
    return params


def _data(site: Windows, graph: TrainableGraph, held: bool) -> Data:
    """The rows that are trained on, or those that are held back, with labels that the task can use."""
    keep = ~site.test & (site.held == held)
    return usable(graph.card.task, Data(site.x[keep], site.y[keep]), labelled=True)
