# SPDX-License-Identifier: Apache-2.0
"""How long before a failure a gateway warns, and how often for nothing: recordings replayed as a gateway reads them.

Federated models (the plans of `accuracy.py`) decide on each reading as it comes: windows, features, threshold of the
site's own normal data, and events as `[asset.X] when` makes them (its defaults, but a minimum gap of ten minutes).
Judged is what the model was not fitted on. A failure counts as met when an event opens within its labelled stretch.

NAB: one machine in four stretches of time; its labels are centred on the failure (Lavin & Ahmad 2015), so lead time is
counted up to the middle of the label. SKAB: experiments of 20 minutes, the fault is labelled from its beginning, so
delay is counted from there, and the lead up to its end: `skab` are the eight experiments that no plant has trained on,
`skab_400` all 25 where each is a site that knows its own first 400 rows only, as the set's own protocol has it.
Sites hold back what their gateway would: whole experiments, or blocks of time of the only one.

`alarm_rate_kept`: the share of normal windows above the limit in use, over the share that the card promises, on
experiments that were not there when the limit was made, after their first 400 s. Of `skab_400` and `nab` the limit was
made from the beginning of the same recording, so it does not adapt to it (`limit_bound`).

Besides, how often bounds of estimates hold for the next cell of a bench and the next engine (`_intervals`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from _common import arguments, finish, table  # isort: skip  # sets the BLAS threads first
import _intervals  # isort: skip
import _units  # isort: skip

from fedge_agent.config.schema import TagConfig, When
from fedge_agent.learning import limits, mixture
from fedge_agent.learning.serving import Serving, Session
from fedge_agent.machines.alerts import Alert
from fedge_agent.machines.run_limit import RunLimit
from fedge_agent.samples.baseline import Plan, Progress
from fedge_agent.types import AlertState, Batch, Decision, Reading
from fedge_agent.windows.assembler import Assembler
from fedge_agent.windows.features import Preparation
from fedge_fleet.data import recordings
from fedge_fleet.data.problems.batteries import liion
from fedge_fleet.data.problems.engines import cmapss
from fedge_fleet.data.problems.heat import PROBATION, nab, nab_tracks
from fedge_fleet.data.problems.problem import Problem
from fedge_fleet.data.problems.water import skab, skab_experiments
from fedge_fleet.data.site_data import standardised
from fedge_fleet.simulate import baselines
from fedge_models.graph.trainable import TrainableGraph
from fedge_models.system.settings import Seconds
from fedge_models.training import standardise

START_NS = 1_700_000_000 * 10**9
WHEN = When(min_gap=Seconds(600))
WEEK_S = 7 * 86400
MAX_MISSING = 0.1
BOUND = 4.0  # `limit_bound` of a new run, as by default
PHASE_NS = 48 * 10**9  # by which sites begin later, so that other blocks of their time are held back
SEEN_S = 400  # of an experiment, before its rate of alarms counts


class Stretch(NamedTuple):
    """Samples start..stop-1 of a recording."""

    start: int
    stop: int


class Replay(NamedTuple):
    """The events of one recording, in samples."""

    warned: list[int | None]  # of each labelled stretch: where the first event within it opened
    labelled: list[Stretch]
    false: int
    normal: int
    windows: int  # normal ones after the first 400 s
    above: int  # of these: above the limit in use
    share: float  # of normal windows that the card promises


def gateway(problem: Problem, site: _units.Site, name: str, weights: np.ndarray) -> Serving:
    """Build what decides at a site: the federated weights, the site's own scale, and the limit of its gateway."""
    file, windows = problem.model(0), site.windows
    graph, ready = TrainableGraph.load(file), standardised(windows, problem.card)
    graph.set_params(weights)
    held, known = site.parts(ready)
    done = {name: Progress(1, 0, len(held.x) + len(known.x), 1)}
    found = limits.of_machines(mixture.Blend(graph, graph.params), held, known, done, {name: Plan()})
    scale = standardise.fit(windows.x[~windows.test & (windows.y == 0)], problem.card)
    return Serving(Session(file, graph.initializers(weights)), problem.card, 1, scale, limits.UNKNOWN, limits=found)


def decisions(track: recordings.Track, serving: Serving, run: RunLimit, alert: Alert) -> Iterator[Decision]:
    """Yield the decisions of a recording, reading by reading; alert: takes each before the next."""
    (name,), card, names = serving.limits, serving.card, [c.name for c in serving.card.channels]
    spec, prepare = card.window, Preparation(card)
    tags = {n: TagConfig(source="replay", tag=n) for n in names}
    made = Assembler("m", tags, [], spec.rate_hz, spec.length, spec.hop, 3 / spec.rate_hz, 2 / spec.rate_hz)
    segment = 0
    for i in range(track.values.shape[1]):
        while i >= track.segments[segment][1]:
            segment += 1
        at = START_NS + round((i / spec.rate_hz + segment * recordings.GAP_S) * 1e9)
        batch = Batch(
            "replay", [Reading(n, at, float(v)) for n, v in zip(names, track.values[:, i], strict=True)], at, 0
        )
        for window in made.push(batch):
            if window.missing <= MAX_MISSING:
                limit = run.limit(serving.limit(name), "", window.end_ns, is_open=alert.state.opened)
                said = serving.decide(prepare(window.values), limit)
                told = (said.score, limit.score, said.label, window.missing, 0.0)
                yield Decision("m", "f", 1, window.end_ns, *told)


def replay(track: recordings.Track, serving: Serving, judged: np.ndarray, bound: float = 1.0) -> Replay:
    """Replay a recording; return openings inside and outside labelled stretches of the test part (samples,).

    bound: the asset's `limit_bound`; 1: the limit does not adapt to the run.
    """
    spec = serving.card.window
    hop_ns = round(spec.hop / spec.rate_hz * 1e9)
    run = RunLimit(bound, round(spec.length / spec.rate_hz * 1e9), hop_ns)
    alert, opened, windows, above = Alert("gw", "m", WHEN, AlertState()), [], 0, 0
    for decision in decisions(track, serving, run, alert):
        made = alert.update(decision)
        run.learn(decision.score, decision.time_ns, alert.state.opened)
        at = _sample(track, serving, decision.time_ns)
        if made is not None and made[0].state == "opened":
            opened.append(at)
        of_window = slice(max(0, at - spec.length + 1), at + 1)
        is_normal = judged[of_window].all() and not (track.label[of_window] == 1).any()
        if is_normal and decision.time_ns - START_NS > SEEN_S * 1e9:
            windows, above = windows + 1, above + (decision.score > decision.threshold)
    labelled = [s for s in _stretches(track.label == 1) if judged[s.start : s.stop].any()]
    inside = [[e for e in opened if s.start <= e < s.stop] for s in labelled]
    false = [e for e in opened if judged[e] and not any(s.start <= e < s.stop for s in labelled)]
    normal = int(np.count_nonzero(judged & (track.label == 0)))
    promised = 1 - serving.card.threshold_quantile
    return Replay([min(e, default=None) for e in inside], labelled, len(false), normal, windows, above, promised)


def _sample(track: recordings.Track, serving: Serving, time_ns: int) -> int:
    seconds, rate = (time_ns - START_NS) / 1e9, serving.card.window.rate_hz
    for segment, (_, stop) in enumerate(track.segments):
        at = round((seconds - segment * recordings.GAP_S) * rate)
        if at < stop:
            return at
    return track.segments[-1][1] - 1


def _stretches(state: np.ndarray) -> list[Stretch]:
    edges = np.flatnonzero(np.diff(np.concatenate([[False], state, [False]]).astype(np.int8)))
    return [Stretch(int(a), int(b)) for a, b in edges.reshape(-1, 2)]


def run(problem: Problem, tracks: dict[str, recordings.Track], judged: Callable[[str], np.ndarray]) -> list[Replay]:
    """Replay every site's recording under the federated model; it begins with what the limit was made from."""
    serving = gateways(problem, {name: [track] for name, track in tracks.items()})
    return [replay(track, serving[name], judged(name)) for name, track in tracks.items()]


def gateways(problem: Problem, tracks: Mapping[str, Sequence[recordings.Track]]) -> dict[str, Serving]:
    """Build what decides at each site of a federation after training; tracks: what its windows were cut from."""
    graph, sites = TrainableGraph.load(problem.model(0)), {}
    for i, (name, windows) in enumerate(problem.sites.items()):
        sites[name] = _units.divided(name, windows, tracks[name], problem.card, START_NS + i * PHASE_NS)
    ready = {name: standardised(site.windows, problem.card) for name, site in sites.items()}
    made = baselines.federated(graph, graph.params.copy(), ready, problem.plan, 0)
    return {name: gateway(problem, site, name, made.at(name)) for name, site in sites.items()}


def nab_replays(data: Path) -> list[Replay]:
    """Replay the three failures of NAB's machine."""
    tracks = nab_tracks(data)

    def judged(name: str) -> np.ndarray:
        part = tracks[name].part == 1
        return part & (np.arange(len(part)) >= (PROBATION * len(part) if name == "part1" else 0))

    return run(nab(data), tracks, judged)


def skab_replays(data: Path) -> list[Replay]:
    """Replay the held-out experiments, each at its own plant."""
    tracks = recordings.skab_experiments(data / "skab")
    problem = skab(data)
    serving = gateways(problem, {p: [t for n, t in tracks.items() if n.startswith(p)] for p in problem.sites})
    held = {name: track for name, track in tracks.items() if (track.part == 1).all()}
    return [
        replay(t, serving[n.partition("-")[0]], np.ones(t.values.shape[1], np.bool_), BOUND) for n, t in held.items()
    ]


def skab_400_replays(data: Path) -> list[Replay]:
    """Replay each experiment's fault; its first 400 rows are for fitting."""
    tracks = {
        name: replace(track, part=(np.arange(track.values.shape[1]) >= 400).astype(np.int64))
        for name, track in recordings.skab_experiments(data / "skab").items()
    }
    return run(skab_experiments(data), tracks, lambda name: np.arange(tracks[name].values.shape[1]) >= 400)


def summary(name: str, replays: list[Replay], period_s: float) -> tuple[list[str], dict[str, float]]:
    """Return a row and figures: failures met, lead and delay (medians, of those met), false alarms a week."""
    pairs = [(s, at) for r in replays for s, at in zip(r.labelled, r.warned, strict=True)]
    met = [(s, at) for s, at in pairs if at is not None]
    weeks = sum(r.normal for r in replays) * period_s / WEEK_S
    ends = [(s.stop if name.startswith("skab") else (s.start + s.stop) / 2) for s, _ in met]
    lead = [(end - at) * period_s for end, (_, at) in zip(ends, met, strict=True)]
    delay = [(at - s.start) * period_s for s, at in met]
    false = sum(r.false for r in replays)
    figures = {
        f"{name}_met": len(met) / max(1, len(pairs)),
        f"{name}_lead_s": float(np.median(lead)) if lead else float("nan"),
        f"{name}_worst_lead_s": min(lead, default=float("nan")),
        f"{name}_delay_s": float(np.median(delay)) if delay else float("nan"),
        f"{name}_false_alarms": float(false),
        f"{name}_false_alarms_per_week": false / weeks,
        f"{name}_normal_weeks": weeks,
    }
    windows = sum(r.windows for r in replays)
    kept = sum(r.above for r in replays) / max(1, windows) / replays[0].share
    if name.startswith("skab"):
        figures |= {f"alarm_rate_kept_{name}": kept, f"{name}_normal_windows": float(windows)}
    told = [_duration(figures[f"{name}_{k}"]) for k in ("lead_s", "worst_lead_s", "delay_s")]
    return [name, f"{len(met)} of {len(pairs)}", *told, f"{false} in {_duration(weeks * WEEK_S)}",
            f"{false / weeks:.2g}", f"{kept:.2g}" if name.startswith("skab") else "-"], figures  # fmt: skip


def _duration(seconds: float) -> str:
    if np.isnan(seconds):
        return "-"
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if abs(seconds) >= 2 * size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.0f} s"


SETS = (
    ("nab", nab_replays, 300.0),
    ("skab", skab_replays, 1.0),
    ("skab_400", skab_400_replays, 1.0),
)


def intervals(data: Path, quick: bool) -> dict[str, float]:
    """Print how often bounds of estimates hold for the next cell or engine; return the figures."""
    lines: list[list[str]] = []
    figures: dict[str, float] = {}
    for problem, seeds in ((liion(data), 6), (cmapss(data), 3)):
        more, found = _intervals.rows(problem, 1 if quick else seeds)
        lines += more
        figures |= found
    print()
    table(_intervals.HEADER, lines)
    of_new = [v for k, v in figures.items() if k.startswith("interval_coverage_") and k.endswith("_new_unit")]
    return {**figures, "interval_coverage_new_unit": float(np.mean(of_new))}


def main() -> None:
    """Print the table."""
    args = arguments((__doc__ or "").partition("\n")[0], data=True)
    lines: list[list[str]] = []
    figures: dict[str, float] = {}
    for name, replays, period_s in SETS:
        line, found = summary(name, replays(args.data), period_s)
        lines.append(line)
        figures |= found
    table(["set", "failures met", "lead", "least lead", "after label", "false alarms", "a week", "rate kept"], lines)
    figures |= intervals(args.data, args.quick)
    finish("early_warning", figures, args.json)


if __name__ == "__main__":
    main()
