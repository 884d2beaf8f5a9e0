# SPDX-License-Identifier: Apache-2.0
"""What brings a compact federated model to the level of boosted trees on a plant's table (AI4I), and what does not.

Each line changes one thing of the plan. Scores are of tool runs that a model has not seen: the training part is cut
into four folds by tool runs, each in turn is left out, and the scores are of all four together. The test part is not
used, but in the table of XGBoost (`--peers`). The int8 coding is in the loop. `--quick`: one seed, five lines, other
figures.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from _common import arguments, finish, table  # isort: skip  # sets the BLAS threads first

import _trees as trees
import numpy as np
from _rising import rising
from fedge_agent.windows.features import input_count
from fedge_fleet.data.problems.milling import AI4I_PHYSICS, FOLDS, ai4i
from fedge_fleet.data.problems.problem import Problem, plan
from fedge_fleet.data.site_data import Floats, Windows, pooled, standardised
from fedge_fleet.simulate import baselines
from fedge_models.graph import zoo
from fedge_models.graph.card import Card, Objective, write_card
from fedge_models.graph.trainable import TrainableGraph
from fedge_models.training.evaluation import average_precision, predict

SEEDS = 4
Make = Callable[[Card, int, int], bytes]  # card, inputs, seed -> model
Change = Callable[[Problem], Problem]


@dataclass(frozen=True)
class Line:
    """One line of a table: what differs from the plan."""

    text: str
    change: Change = lambda problem: problem
    derive: tuple[str, ...] = tuple(AI4I_PHYSICS)

    def problem(self, data: Path, fold: int) -> Problem:
        """The problem with that fold in the place of the test part."""
        columns = {name: AI4I_PHYSICS[name] for name in self.derive}
        return self.change(ai4i(data, columns, fold)).validating()


def dense(hidden: tuple[int, ...] = (64, 32)) -> Change:
    """Dense layers alone."""
    return _net(lambda card, inputs, seed: zoo.mlp(card, inputs, hidden, seed).SerializeToString())


def ramps(count: int = 16, hidden: tuple[int, ...] = (32, 16)) -> Change:
    """Other sizes of the net for tables."""
    return _net(lambda card, inputs, seed: zoo.table(card, inputs, hidden, count, seed).SerializeToString())


def _net(make: Make) -> Change:
    def change(problem: Problem) -> Problem:
        card = problem.card
        return replace(problem, model=lambda seed: make(card, input_count(card), seed))

    return change


def training(**changes: float) -> Change:
    """Train in another way; keys as those of `problem.plan`."""
    given = {"rounds": 48, "epochs": 1, "rate": 0.01, "halving": 20, "clip": 1.0}
    return lambda problem: replace(problem, plan=plan(**{**given, **changes}))  # type: ignore[arg-type]


def card(**changes: object) -> Change:
    """Change keys of the card."""

    def change(problem: Problem) -> Problem:
        import onnx

        fields = {f: getattr(problem.card, f) for f in problem.card.__struct_fields__}
        changed = Card(**{**fields, **changes})

        def model(seed: int) -> bytes:
            made = onnx.load_from_string(problem.model(seed))
            write_card(made, changed)
            return made.SerializeToString()

        return replace(problem, card=changed, model=model)

    return change


def both(*changes: Change) -> Change:
    """One change after the other."""

    def change(problem: Problem) -> Problem:
        for each in changes:
            problem = each(problem)
        return problem

    return change


def monotone(*columns: str) -> Change:
    """A failure can only become more likely while these columns rise."""
    return both(_net(lambda card, inputs, seed: rising(card, inputs, seed, columns)), card(trainable="dense*, ramp.*"))


OLD = both(dense(), training(clip=0.0))
WAYS = (
    Line("dense layers, measured columns", OLD, ()),
    Line("dense layers, with the power alone", OLD, ("power",)),
    Line("dense layers, with the warming alone", OLD, ("warming",)),
    Line("dense layers, with the strain alone", OLD, ("strain",)),
    Line("dense layers, with all three", OLD),
    Line("and weight decay 0.1 (AdamW)", both(dense(), training(clip=0.0, decay=0.1))),
    Line("trained ramps, measured columns", derive=()),
    Line("trained ramps, with all three: the plan"),
    Line("ramps that are not trained", card(trainable="dense*")),
    Line("ramps whose slopes are not trained", card(trainable="dense*, ramp.centre")),
)
PARTS = (
    Line("8 ramps a column", ramps(8)),
    Line("32 ramps a column", ramps(32)),
    Line("dense layers of 64 and 32", ramps(16, (64, 32))),
    Line("one dense layer of 32", both(ramps(16, (32,)), card(local="dense1.*"))),
    Line("batch 16", training(batch=16)),
    Line("batch 64", training(batch=64)),
    Line("no clipping of gradients", training(clip=0.0)),
    Line("weight decay 0.01", training(decay=0.01)),
    Line("96 rounds", training(rounds=96, halving=40)),
    Line("24 rounds of 2 epochs", training(rounds=24, epochs=2, halving=10)),
    Line("as fedge trains by default", training(epochs=5, rate=0.001, halving=0, clip=0.0, correction=0.5)),
    Line("learning rate 0.02", training(rate=0.02)),
    Line("drift not taken back", training(correction=0.0)),
    Line("FedProx 0.01", training(mu=0.01)),
    Line("last layer federated, too", card(local="")),
    Line("classes not weighed", card(objective=Objective(class_weights="none"))),
    Line("classes weighed in full", card(objective=Objective(class_weights="balanced"))),
    Line("labels smoothed by 0.05", card(objective=Objective(label_smoothing=0.05))),
    Line("focal loss", card(objective=Objective(loss="focal"))),
    Line("rising with the wear alone, by squared weights", monotone("tool_wear")),
    Line("rising with wear and strain, by squared weights", monotone("tool_wear", "strain")),
)
BOUNDS = (WAYS[0], WAYS[4], WAYS[6], WAYS[7])  # beside all data in one place, and each site alone
QUICK = (*BOUNDS, WAYS[8])
MODES = ("federated", "central", "alone")


def outputs(line: Line, data: Path, seed: int, fold: int, mode: str) -> tuple[Floats, Floats]:
    """The log odds of a failure of the rows that were left out, and the labels."""
    problem = line.problem(data, fold)
    sites = {n: standardised(s, problem.card) for n, s in problem.sites.items()}
    graph = TrainableGraph.load(problem.model(seed))
    at = _models(problem, graph, sites, seed, mode)
    odds, labels = [], []
    for name, site in sites.items():
        x, y = site.part(test=True)
        graph.set_params(at(name))
        out = predict(graph, x)
        odds.append(out[:, 1] - out[:, 0])
        labels.append(y)
    return np.concatenate(odds), np.concatenate(labels)


def _models(
    problem: Problem, graph: TrainableGraph, sites: dict[str, Windows], seed: int, mode: str
) -> Callable[[str], Floats]:
    start = graph.params.copy()
    if mode == "federated":
        return baselines.federated(graph, start, sites, problem.plan, seed).at
    if mode == "central":
        one = baselines.alone(graph, start, pooled(sites), problem.plan, seed)
        return lambda _: one
    return {n: baselines.alone(graph, start, s, problem.plan, seed) for n, s in sites.items()}.__getitem__


def scores(line: Line, data: Path, seed: int, mode: str = "federated") -> tuple[float, float]:
    """Average precision, and F1 of the decisions as a gateway takes them, over all folds together."""
    parts = [outputs(line, data, seed, fold, mode) for fold in range(FOLDS)]
    odds, labels = (np.concatenate(of) for of in zip(*parts, strict=True))
    failed, said = labels == 1, odds > 0
    return average_precision(odds, failed), float(2 * (failed & said).sum() / max(1, failed.sum() + said.sum()))


def _row(line: Line, data: Path, seeds: int, mode: str) -> tuple[list[str], np.ndarray]:
    found = np.array([scores(line, data, seed, mode) for seed in range(seeds)])
    error = found.std(axis=0, ddof=1) / seeds**0.5 if seeds > 1 else np.zeros(2)
    texts = [f"{m:.3f} ± {e:.3f}" for m, e in zip(found.mean(axis=0), error, strict=True)]
    return texts, found.mean(axis=0)


def _boosted(data: Path, seeds: int) -> list[list[str]]:
    """Boosted trees in one place, with the site as one more column, and at each site alone."""
    kinds = (
        ("in one place", False, False),
        ("in one place, knowing the site", True, False),
        ("each alone", False, True),
    )
    made = []
    for physics in (False, True):
        columns = "measured columns and all three" if physics else "measured columns"
        for text, variant, alone in kinds:
            made.append([f"{text}, {columns}", *trees.measure(trees.rows(data, physics, variant), alone, seeds)])
    return made


TREES = ["XGBoost", "folds: average precision", "test: average precision", "F1 at 0.5", "F1 at the folds' threshold"]


def _more(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--only", choices=("ways", "bounds", "parts"), help="only one of the tables")


def main() -> None:
    """Print the tables."""
    args = arguments(__doc__ or "", _more, data=True)
    seeds, figures = 1 if args.quick else SEEDS, {}
    blocks = {"ways": QUICK} if args.quick else {"ways": WAYS, "bounds": BOUNDS, "parts": PARTS}
    for name, lines in blocks.items():
        if args.only not in (None, name):
            continue
        modes, rows = MODES if name == "bounds" else MODES[:1], []
        for line in lines:
            cells = []
            for mode in modes:
                texts, mean = _row(line, args.data, seeds, mode)
                cells += texts
                figures[f"{line.text}, {mode}"] = float(mean[0])
            size = len(TrainableGraph.load(line.problem(args.data, 0).model(0)).params)
            rows.append([line.text, str(size), *cells])
            print(*rows[-1], sep="  ", file=sys.stderr, flush=True)  # the whole takes half an hour
        table(["", "parameters", *(f"{m}: {s}" for m in modes for s in ("average precision", "F1"))], rows)
        print(flush=True)
    if args.peers:
        table(TREES, _boosted(args.data, seeds))
    finish("tables", figures, args.json)


if __name__ == "__main__":
    main()
