# SPDX-License-Identifier: Apache-2.0
"""What it pays that limits learn from closing codes: false alarms before and after, and whether a fault is missed.

A model and a limit come from the other sites, as on a new machine, and meet a stream of windows: the training part of
each site of SKAB, one recording after another, with every fourth fault, as faults are rare. A machine whose normal
windows score higher than those of others has a limit that is too low: it is taken at 1, 0.7 and 0.5 of what was learnt.
Each event is closed with the truth: a fault if a window of it is one, else a false alarm. Counted are the false alarms
of the second half of the stream, when the first half has taught the limit (`learning.closing_codes`). Nothing of the
test part is used. `--quick`: one seed.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from _common import arguments, finish, table  # isort: skip  # sets the BLAS threads first

import numpy as np
from fedge_agent.config.schema import When
from fedge_agent.learning import label_worth
from fedge_agent.learning.closing_codes import DOWN, UP, move
from fedge_agent.learning.limits import Limit
from fedge_agent.learning.mixture import outputs
from fedge_agent.learning.moved_limit import moved
from fedge_agent.machines.alerts import Alert
from fedge_agent.samples.closings import Closing
from fedge_agent.types import AlertState, Decision
from fedge_fleet.data.problems.problem import Problem
from fedge_fleet.data.problems.registry import SETS
from fedge_fleet.data.site_data import pooled, standardised
from fedge_fleet.simulate import baselines
from fedge_models.graph.trainable import TrainableGraph
from fedge_models.system import times
from fedge_models.system.settings import Seconds
from numpy.typing import NDArray

SEEDS = 6
RARE = 4  # one fault in so many stays in the stream
CASES = ((1.0, 3), (0.7, 3), (0.5, 3), (0.7, 1), (0.5, 1))  # part of the learnt limit, windows that open an event
WAYS = {  # step of a false alarm, bound of all together
    "not at all": (1.0, 1.0),
    "2 %, to 1.5": (1.02, 1.5),
    "4 %, to 1.25": (1.04, 1.25),
    "4 %, to 1.5 (the default)": (UP, 1.5),
    "4 %, to 2": (1.04, 2.0),
    "8 %, to 1.5": (1.08, 1.5),
}
Stream = tuple[NDArray[np.float32], NDArray[np.bool_], float]  # scores, which are of faults, the limit


def streams(problem: Problem, seed: int) -> Iterator[Stream]:
    """Each site's windows as a stream, with model and limit of the others."""
    sites = {n: standardised(s, problem.card) for n, s in problem.sites.items()}
    graph = TrainableGraph.load(problem.model(seed))
    start = graph.params.copy()
    for name, site in sites.items():
        others = pooled({n: s for n, s in sites.items() if n != name})
        graph.set_params(start)
        params = baselines.alone(graph, start, others, problem.plan, seed)
        known, own = others.x[~others.test & (others.y == 0)], ~site.test & (site.y >= 0)
        usual = label_worth.says(problem.card, outputs(graph, params, known), known)
        x, faults = site.x[own], site.y[own] > 0
        scores, keep = label_worth.says(problem.card, outputs(graph, params, x), x), np.ones(len(x), np.bool_)
        for i, episode in enumerate(_runs(faults)):
            keep[episode] = i % RARE == 0
        yield scores[keep], faults[keep], float(np.quantile(usual, problem.card.threshold_quantile))


def followed(stream: Stream, case: tuple[float, int], up: float, most: float) -> tuple[int, float]:
    """False alarms of the second half, and the share of its fault episodes that are found."""
    scores, faults, limit = stream
    alert = Alert("gw", "a", When(min_gap=Seconds(0), for_windows=case[1]), AlertState())
    closings: list[Closing] = []
    begin, false, hit, half = 0, 0, np.zeros(len(scores), np.bool_), len(scores) // 2
    factor = partial(move, most=most, up=up, down=DOWN if up > 1 else 1.0)
    for i, score in enumerate(scores.tolist()):
        now = moved(Limit(limit * case[0]), [factor(closings).factor]).score
        made = alert.update(Decision("a", "m", 1, (i + 1) * times.DAY_NS, score, now, "anomaly", 0.0, 0.0))
        if made is not None and made[0].state == "opened":
            begin = max(0, i + 1 - case[1])
        elif made is not None and made[0].state == "cleared":
            is_fault = bool(faults[begin : i + 1].any())
            closings.append(Closing(made[0].key, i * times.DAY_NS, is_fault, made[0].worst / now))
            hit[begin : i + 1] = True
            false += not is_fault and begin >= half
    episodes = [e for e in _runs(faults) if e.start >= half]
    return false, float(np.mean([hit[e].any() for e in episodes])) if episodes else np.nan


def _runs(faults: NDArray[np.bool_]) -> list[slice]:
    """The stretches of windows that are of a fault."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], faults.astype(np.int8), [0]])))
    return [slice(int(a), int(b)) for a, b in edges.reshape(-1, 2)]


def main() -> None:
    """Measure."""
    args = arguments(str(__doc__).partition("\n")[0], data=True)
    problem = SETS["skab"](args.data)
    runs = [stream for seed in range(1 if args.quick else SEEDS) for stream in streams(problem, seed)]
    rows: list[list[str]] = []
    figures: dict[str, float] = {}
    for name, (up, most) in WAYS.items():
        cells, least = [name], 1.0
        for case in CASES:
            false, found = np.nanmean([followed(stream, case, up, most) for stream in runs], axis=0)
            cells.append(f"{false:.1f}")
            least = min(least, float(found))
            figures[f"false_alarms_{case[0]:g}_{case[1]}_{up:g}_{most:g}"] = float(false)
        rows.append([*cells, f"{least:.3f}"])
    table(["limit moves", *(f"{part:g} of the limit, {n} in a row" for part, n in CASES), "faults found, least"], rows)
    finish("closing_codes", figures, args.json)


if __name__ == "__main__":
    main()
