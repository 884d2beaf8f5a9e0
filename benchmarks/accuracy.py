"""Federated against local-only and centralised on real machines, with the real int8 coding in the loop.

Splits are those of the data's README. `skab`: three plants, whole experiments held out. `skab_experiments`: every
experiment is a site; its first 400 rows are for fitting, the rest is judged. `fan`: five recordings, the last 30 % of
each. Own models are judged on their own site's test part (own) and on everyone's (own everywhere); scores are means
over sites.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from _common import arguments, finish, table  # isort: skip  # sets the BLAS threads first

import numpy as np
from fedge_agent.features import feature_count
from fedge_fleet import offline, recordings
from fedge_fleet.recordings import Track
from fedge_models import zoo
from fedge_models.card import Card, Channel, WindowSpec
from fedge_models.graph import TrainableGraph
from fedge_models.training import TrainingConfig

CONFIG = TrainingConfig(learning_rate=0.003)
ROUNDS = 12
FIT_ROWS = 400
Set = tuple[dict[str, Track], Card, Callable[[int], bytes]]


def skab(data: Path) -> Set:
    """Three plants."""
    experiments = recordings.skab_experiments(data / "skab")
    plants = {p: [t for n, t in experiments.items() if n.startswith(p)] for p in ("valve1", "valve2", "other")}
    return _skab({p: recordings.join(tracks) for p, tracks in plants.items()})


def skab_experiments(data: Path) -> Set:
    """Every experiment a site."""
    tracks = {}
    for name, track in recordings.skab_experiments(data / "skab").items():
        part = (np.arange(track.values.shape[1]) >= FIT_ROWS).astype(np.int64)
        tracks[name] = replace(track, part=part)
    return _skab(tracks)


def _skab(tracks: dict[str, Track]) -> Set:
    card = _card("anomaly", tracks, WindowSpec(1, 60, 5), ("mean", "std", "slope"))
    return tracks, card, lambda seed: zoo.autoencoder(card, _inputs(card), (8,), seed).SerializeToString()


def fan(data: Path) -> Set:
    """Five recordings of fans."""
    sites = (*recordings.FAN_SITES, "fan1-s3")
    tracks = recordings.fan(data / "fan", 1.0, sites)
    card = _card("classify", tracks, WindowSpec(200, 200, 100), ("mean", "std", "kurtosis", "bands:6"))
    return tracks, card, lambda seed: zoo.mlp(card, _inputs(card), (32, 16), seed).SerializeToString()


SETS = {"skab": skab, "skab_experiments": skab_experiments, "fan": fan}


def _card(task: str, tracks: dict[str, Track], window: WindowSpec, features: tuple[str, ...]) -> Card:
    channels = tuple(Channel(n, u) for n, u in next(iter(tracks.values())).channels)
    labels = recordings.FAN_STATES if task == "classify" else ()
    return Card(task, channels, window, features, labels, labels[0] if labels else "")  # type: ignore[arg-type]


def _inputs(card: Card) -> int:
    return feature_count(card.features, len(card.channels))


def measure(made: Set, seed: int) -> dict[str, float]:
    """Scores of one seed."""
    tracks, card, model = made
    sites = {n: offline.standardised(offline.windows(t, card), card) for n, t in tracks.items()}
    judged = {n: s for n, s in sites.items() if len(np.unique(s.part(test=True)[1][s.part(test=True)[1] >= 0])) > 1}
    graph = TrainableGraph.load(model(seed))
    start = graph.params.copy()

    def everywhere(params: offline.Floats) -> float:
        return float(np.mean([offline.score(graph, params, s) for s in judged.values()]))

    own = {n: offline.alone(graph, start, s, CONFIG, ROUNDS, seed) for n, s in judged.items()}
    return {
        "untrained": everywhere(start),
        "own": float(np.mean([offline.score(graph, own[n], s) for n, s in judged.items()])),
        "own_everywhere": float(np.mean([everywhere(p) for p in own.values()])),
        "federated": everywhere(offline.federated(graph, start, sites, CONFIG, ROUNDS, seed)),
        "central": everywhere(offline.alone(graph, start, offline.pooled(sites), CONFIG, ROUNDS, seed)),
    }


def main() -> None:
    """Print the table."""
    args = arguments(__doc__ or "")
    seeds, rows, figures = range(1 if args.quick else 3), [], {}
    for name, load in SETS.items():
        made = load(args.data)
        runs = [measure(made, seed) for seed in seeds]
        mean = {k: float(np.mean([r[k] for r in runs])) for k in runs[0]}
        figures |= {f"{name}_{k}": v for k, v in mean.items()}
        figures[f"{name}_fed_vs_central"] = mean["federated"] / mean["central"]
        figures[f"{name}_fed_vs_local"] = mean["federated"] / mean["own"]
        metric = "AUROC" if made[1].task == "anomaly" else "macro-F1"
        rows.append([name, str(len(made[0])), metric, *(f"{v:.3f}" for v in mean.values())])
    table(["set", "sites", "metric", "untrained", "own", "own everywhere", "federated", "central"], rows)
    finish("accuracy", figures, args.json)


if __name__ == "__main__":
    main()
