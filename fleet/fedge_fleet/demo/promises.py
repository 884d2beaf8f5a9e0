# SPDX-License-Identifier: Apache-2.0
"""The demo's promises, whether each was kept, and the report that shows them."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from fedge_models.training.evaluation import auroc, macro_f1

from ..report import BaseLine, Line, LineChart, Promise, Report, Table
from .scenario import Scenario
from .stage import FEDERATION
from .watch import Comparison, Watch

P99_MS = 20  # of decisions, while the site trains


def live_score(scenario: Scenario, site: str, watch: Watch, wall: float) -> float | None:
    """Score what the agent decided during the test part against the labels that it did not receive."""
    track, decided, truth = scenario.tracks[site], [], []
    for decision in watch.decisions[site].values():
        at = track.sample_at(decision["time_ns"] / 1e9 - wall)
        first = None if at is None else at - scenario.card.window.length + 1
        if at is None or first is None or first < 0 or not track.part[at] or track.label[first] != track.label[at]:
            continue
        truth.append(int(track.label[at]))
        guess = decision["score"]
        decided.append(scenario.card.labels.index(decision["label"]) if scenario.card.task == "classify" else guess)
    if len(set(truth)) < 2:
        return None
    if scenario.card.task == "classify":
        return macro_f1(np.array(truth), np.array(decided))
    return auroc(np.array(decided), np.array(truth) == 1)


def evaluate(
    scenario: Scenario,
    watch: Watch,
    compared: Comparison,
    orders: list[dict[str, Any]],
    left: list[int],
    bytes_down: dict[str, int],
) -> Report:
    """Evaluate every promise and build the report."""
    graph, last = compared.graph, max(watch.releases)
    fed = compared.scored(watch.releases[last][1])
    statuses = watch.statuses
    events = sum(s["assets"]["machine"]["events"] for s in statuses.values())
    p99 = max(s["latency"]["p99_ms"] for s in statuses.values())
    per_update = {s: st["bytes_up"] / max(1, _sent(st)) for s, st in statuses.items()}
    ratio = max(per_update.values()) / (4 * len(graph.params))
    lost = sum(sum(s["lost"].values()) for s in statuses.values())
    mean_fed, mean_own = float(np.mean(list(fed.values()))), float(np.mean(list(compared.own.values())))
    everywhere = float(np.mean(list(compared.own_everywhere.values())))
    mean_central = float(np.mean(list(compared.central.values())))
    versions = {s: st["models"][FEDERATION]["release"] for s, st in statuses.items()}
    promises = [
        Promise("every site decides", f"{[s['latency']['decisions'] for s in statuses.values()]}", all(
            s["latency"]["decisions"] > 100 for s in statuses.values())),
        Promise("no reading, sample or event lost", str(lost), lost == 0),
        Promise(f"decisions within {P99_MS} ms (p99, while training)", f"{p99:.2f} ms{_busy(p99)}", p99 <= P99_MS),
        Promise("at least 6 rounds, all sites on a recent release", f"{last - 1} rounds, {list(versions.values())}",
                last >= 7 and min(v or 0 for v in versions.values()) >= last - 2),
        Promise("on everyone's machines, the federated model is at least as good as the sites' own (means)",
                f"{mean_fed:.3f} against {everywhere:.3f}", mean_fed >= everywhere),
        Promise("federated at least 98 % of pooling all data (means)", f"{mean_fed:.3f} against {mean_central:.3f}",
                mean_fed >= 0.98 * mean_central),
        Promise("federated at least 98 % of the sites' own models on their own machines (means)",
                f"{mean_fed:.3f} against {mean_own:.3f}", mean_fed >= 0.98 * mean_own),
        Promise("an update is under 40 % of float32 (small model: signature and headers weigh)",
                f"{ratio:.1%}", ratio < 0.4),
        Promise("each event is exactly one work order, whatever becomes of answers",
                f"{events} events, {len(orders)} orders, {sum(o['deliveries'] > 1 for o in orders)} answers lost",
                events == len(orders) and events > 0),
        Promise("no process left behind", f"{len(left)}", not left),
    ]  # fmt: skip
    table = []
    for site, status in statuses.items():
        wall = watch.began
        live = live_score(scenario, site, watch, wall)
        table.append(
            [
                site,
                f"{compared.own[site]:.3f}",
                f"{compared.own_everywhere[site]:.3f}",
                f"{fed[site]:.3f}",
                f"{compared.central[site]:.3f}",
                "-" if live is None else f"{live:.3f}",
                str(status["latency"]["decisions"]),
                f"{status['latency']['p50_ms']:.2f}",
                f"{status['latency']['p99_ms']:.2f}",
                f"{status['bytes_up'] / 1024:.1f}",
                f"{bytes_down[site] / 1024:.1f}",
                f"{status['rss_mib']:.0f}",
                str(sum(o["body"]["reference"].startswith(f"{site}:") for o in orders)),
            ]
        )
    header = ["site", "own", "own everywhere", "federated", "central", "live", "decisions", "p50 ms", "p99 ms",
              "KiB up", "KiB down", "RSS MiB", "orders"]  # fmt: skip
    sites = Table(f"Sites ({scenario.metric} on the test part)", header, table)
    return Report(f"fedge demo: {scenario.name}", [sites, *_charts(scenario, watch, compared)], promises)


def _busy(p99_ms: float) -> str:
    """What may have made decisions slow."""
    load, cores = os.getloadavg()[0], os.cpu_count() or 1
    hint = f"; a busy machine may be the cause (load {load:.1f} on {cores} cores): run it again on an idle one"
    return hint if p99_ms > P99_MS else ""


def _sent(status: dict[str, Any]) -> int:
    """How many updates an agent has sent (each training makes one)."""
    release = status["models"][FEDERATION]["head"] or 1
    return max(1, min(release, max((t["base"] for t in status["models"][FEDERATION]["trainings"]), default=1)))


def _charts(scenario: Scenario, watch: Watch, compared: Comparison) -> list[LineChart]:
    scores = {v: compared.scored(w) for v, (_, w) in sorted(watch.releases.items())}
    per_site = [Line(site, [(float(v), s[site]) for v, s in scores.items()]) for site in scenario.tracks]
    means = [(float(v), float(np.mean(list(s.values())))) for v, s in scores.items()]
    own, central = (float(np.mean(list(of.values()))) for of in (compared.own_everywhere, compared.central))
    base = [BaseLine("own models, everywhere", own), BaseLine("all data in one place", central)]
    return [
        LineChart(
            "The global model, release by release", "release", scenario.metric, [Line("mean of all sites", means)],
            baselines=base, whole=True,
        ),
        LineChart("Site by site", "release", scenario.metric, per_site, whole=True),
        _decisions(scenario, watch),
    ]  # fmt: skip


def _decisions(scenario: Scenario, watch: Watch) -> LineChart:
    """What the first site decided while the demo ran."""
    site = next(iter(scenario.tracks))
    decisions = sorted(watch.decisions[site].values(), key=lambda d: d["time_ns"])
    zero = decisions[0]["time_ns"] if decisions else 0
    line = [((d["time_ns"] - zero) / 1e9, d["score"]) for d in decisions]
    limit = [((d["time_ns"] - zero) / 1e9, d["threshold"]) for d in decisions if d["threshold"] is not None]
    cap = 4 * float(np.median([y for _, y in limit])) if limit else 1.0
    shown = [(x, min(y, cap)) for x, y in line]
    return LineChart(
        f"What {site} decided (shaded: a labelled fault)",
        "time since the first decision, s",
        f"score, cut off at {cap:.3g}" if any(y > cap for _, y in line) else "score",
        [Line("score", shown), Line("threshold", limit, dashed=True)],
        _faults(scenario, site, zero / 1e9 - watch.began),
        zero=True,
    )


def _faults(scenario: Scenario, site: str, offset: float) -> list[tuple[float, float]]:
    """Spans (s since the first decision) in which the machine is labelled other than normal."""
    track, spans = scenario.tracks[site], []
    normal = scenario.card.normal_index if scenario.card.task == "classify" else 0
    for k, (start, stop) in enumerate(track.segments):
        bad = np.flatnonzero(np.diff(np.concatenate([[0], track.label[start:stop] != normal, [0]])))
        for a, b in bad.reshape(-1, 2).tolist():
            spans.append((track.seconds_at(start + a, k) - offset, track.seconds_at(start + b, k) - offset))
    return spans


def summarise(report: Report, out: Path, say: Callable[[str], None]) -> None:
    """Print the summary as text."""
    for table in report.tables:
        say(f"\n{table.title}")
        rows = table.texts()
        widths = [max(len(r[i]) for r in rows) for i in range(len(rows[0]))]
        for row in rows:
            say("  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)))
    say("")
    for promise in report.promises:
        say(f"{'kept    ' if promise.kept else 'NOT KEPT'}  {promise.text}: {promise.measured}")
    say(f"\nreport: {out / 'index.html'}")
