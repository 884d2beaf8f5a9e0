# SPDX-License-Identifier: Apache-2.0
"""The health of the agent: latencies of decisions, and metrics for Prometheus made from the status."""

from __future__ import annotations

import os
import time
from bisect import bisect_left
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from prometheus_client.core import Metric

PROGRAM = "fedge-agent"
STATUS_FILE = "status.addr"  # in the state folder: where the status page listens
BUCKETS_S = (0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.5)
RECENT = 512
FRESH_S = 0.1  # how long `slow` repeats its last answer


def rss_mib() -> float:
    """Resident memory of this process, MiB; 0 where /proc is not there."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except (OSError, ValueError):
        return 0.0
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


class Latency:
    """Times from a window's last reading to its decision. Recording costs about a microsecond."""

    def __init__(self) -> None:
        self.counts = [0] * (len(BUCKETS_S) + 1)
        self.total = 0.0
        self._recent: deque[float] = deque(maxlen=RECENT)
        self._asked, self._answer = 0.0, 0.0

    def record(self, seconds: float) -> None:
        """Count the latency of one decision."""
        self.counts[bisect_left(BUCKETS_S, seconds)] += 1
        self.total += seconds
        self._recent.append(seconds)

    def quantile(self, q: float) -> float:
        """Quantile of the latencies of recent decisions, s; 0 before the first."""
        ordered = sorted(self._recent)
        return ordered[min(len(ordered) - 1, int(q * len(ordered)))] if ordered else 0.0

    def slow(self, budget: float) -> bool:
        """Whether the p99 of recent decisions is above the budget (s)."""
        now = time.monotonic()
        if now - self._asked > FRESH_S:
            self._asked, self._answer = now, self.quantile(0.99)
        return self._answer > budget

    def status(self) -> dict[str, Any]:
        """The latencies as plain data, ms."""
        return {
            "decisions": sum(self.counts),
            "p50_ms": round(1e3 * self.quantile(0.5), 3),
            "p99_ms": round(1e3 * self.quantile(0.99), 3),
            "buckets_s": list(BUCKETS_S),
            "counts": self.counts,
        }


class Metrics:
    """Metrics read from the status when Prometheus asks, so that nothing is counted twice. Prometheus's library is
    imported at the first request."""

    def __init__(self, app: Any) -> None:
        self._app = app

    def text(self) -> bytes:
        """All metrics in Prometheus's text format."""
        from prometheus_client import CollectorRegistry, generate_latest

        registry = CollectorRegistry()
        registry.register(self)
        return generate_latest(registry)

    def describe(self) -> list[Metric]:
        """Describe nothing in advance: the metrics depend on the status."""
        return []

    def collect(self) -> Iterator[Metric]:
        """Yield all metrics."""
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

        status = self._app.status()
        yield self._latency()
        for name, what, values in _counters(status):
            family = CounterMetricFamily(f"fedge_agent_{name}", what, labels=["name"])
            for label, value in values.items():
                family.add_metric([label], value)
            yield family
        yield self._conditions(status["assets"])
        yield _temperatures(status["models"])
        for name, what, values in _gauges(status):
            gauge = GaugeMetricFamily(f"fedge_agent_{name}", what, labels=["name"])
            for label, value in values.items():
                gauge.add_metric([label], value)
            yield gauge

    def _conditions(self, assets: dict[str, Any]) -> Metric:
        from prometheus_client.core import GaugeMetricFamily

        what = "1 for the state of each asset, with the first reason"
        family = GaugeMetricFamily("fedge_agent_condition", what, labels=["name", "state", "reason"])
        for name, entry in assets.items():
            condition = entry["condition"]
            reason = condition["causes"][0]["reason"] if condition["causes"] else ""
            family.add_metric([name, condition["state"], reason], 1)
        return family

    def _latency(self) -> Metric:
        from prometheus_client.core import HistogramMetricFamily

        latency: Latency = self._app.latency
        running, buckets = 0, []
        for edge, count in zip([*map(str, BUCKETS_S), "+Inf"], latency.counts, strict=True):
            running += count
            buckets.append((edge, running))
        what = "Window complete to decision, s"
        return HistogramMetricFamily("fedge_agent_decision_seconds", what, buckets, latency.total)


def _temperatures(models: dict[str, Any]) -> Metric:
    from prometheus_client.core import GaugeMetricFamily

    what = "By which probabilities are made to fit this site, 1: as the model says, by model, and label of a set"
    family = GaugeMetricFamily("fedge_agent_temperature", what, labels=["name", "label"])
    for name, entry in models.items():
        found = entry["calibration"]
        for label, value in {} if found is None else (found["temperatures"] or {"": found["temperature"]}).items():
            family.add_metric([name, label], value)
    return family


def _counters(status: dict[str, Any]) -> list[tuple[str, str, dict[str, float]]]:
    sources, assets, outputs = status["sources"], status["assets"], status["outputs"]
    labels = status["labels"]
    wrong = {k: v["unknown"] + v["malformed"] for k, v in labels.items()}
    counted = {f"{name}/{what}": n for name, v in sources.items() for what, n in v["counts"].items()}
    return [
        ("readings", "Readings taken in, by source", {k: v["readings"] for k, v in sources.items()}),
        ("bad_readings", "Readings of bad quality, by source", {k: v["bad"] for k, v in sources.items()}),
        ("counted", "Input that was not used as it came, by source/kind", counted),
        ("reconnects", "New connections after a loss, by source", {k: v["reconnects"] for k, v in sources.items()}),
        ("windows", "Windows completed, by asset", {k: v["counters"]["windows"] for k, v in assets.items()}),
        (
            "history_windows",
            "Windows of what a source sent afterwards, by asset",
            {k: v["counters"].get("history", 0) for k, v in assets.items()},
        ),
        (
            "windows_undefined",
            "Windows not decided on because the formula of a derived channel gives no number, by asset",
            {k: v["windows_undefined"] for k, v in assets.items()},
        ),
        (
            "windows_undecided",
            "Windows that came before the model could decide and are not decided on, by asset",
            {k: v["windows_undecided"] for k, v in assets.items()},
        ),
        (
            "decided_by_one",
            "Windows on which this site's own model or the release decided alone, as the other overflowed, by model",
            {k: v["decided_by_one"] for k, v in status["models"].items()},
        ),
        (
            "releases_refused",
            "Releases that the canary refused since the start, by model",
            {k: v["refused"]["total"] for k, v in status["models"].items()},
        ),
        (
            "own_trainings",
            "Trainings of this site's own model since the start, by model",
            {k: v["own"]["trainings"] for k, v in status["models"].items()},
        ),
        (
            "own_trainings_undone",
            "Trainings of it whose result was discarded: it diverged, or is worse on held-back samples, by model",
            {k: v["own"]["undone"] for k, v in status["models"].items()},
        ),
        (
            "statistics_sent",
            "Statistics of this site sent and stored, by model",
            {k: v["statistics"]["sent"] for k, v in status["models"].items()},
        ),
        ("gaps", "Gaps longer than a window, by asset", {k: v["counters"]["gaps"] for k, v in assets.items()}),
        (
            "clock_jumps",
            "Times that a source's clock was set, by asset",
            {k: v["counters"].get("clock_jumps", 0) for k, v in assets.items()},
        ),
        ("unused_readings", "Readings that could not be used, by asset/kind", _unused(assets)),
        ("out_of_range", "Readings outside of a channel's range, by asset/channel", _by_channel(assets)),
        ("unjudged", "Decisions that could not alarm, by asset", {k: v["unjudged"] for k, v in assets.items()}),
        (
            "alarms_held",
            "Alarms within min_gap that made no event, as they are no more than the last event was, by asset",
            {k: v["alarms_held"] for k, v in assets.items()},
        ),
        (
            "false_alarms",
            "Alarms that people found to be false and that move the limit, by asset",
            {k: v["limit"]["false_alarms"] for k, v in assets.items() if v["limit"] is not None},
        ),
        (
            "confirmed_faults",
            "Alarms that people found to be faults and that move the limit, by asset",
            {k: v["limit"]["faults"] for k, v in assets.items() if v["limit"] is not None},
        ),
        ("events", "Events raised, by asset", {k: v["events"] for k, v in assets.items()}),
        (
            "thinned_windows",
            "Windows not stored because others cover the time, by asset",
            {k: v["windows_thinned"] for k, v in assets.items()},
        ),
        (
            "repeated_samples",
            "Windows read again whose samples are stored, by asset",
            {k: v["samples_repeated"] for k, v in assets.items()},
        ),
        (
            "crowded_samples",
            "Samples lost because their asset delivered too many, by asset",
            {k: v["samples_crowded"] for k, v in assets.items()},
        ),
        ("delivered", "Events sent and answered, by output", {k: v["delivered"] for k, v in outputs.items()}),
        ("skipped", "Events with nothing to send, by output", {k: v["skipped"] for k, v in outputs.items()}),
        ("withheld", "Cleared without an opened, by output", {k: v["withheld"] for k, v in outputs.items()}),
        ("overflowed", "Events lost to a full queue, by output", {k: v["overflowed"] for k, v in outputs.items()}),
        ("delivery_failures", "Tries that failed, by output", {k: v["retries"] for k, v in outputs.items()}),
        (
            "skipped_labels",
            "Rows of stations that are comments or of other machines, by asset",
            {k: v["skipped"] for k, v in labels.items()},
        ),
        ("relabelled", "Samples that late labels taught, by asset", {k: v["relabelled"] for k, v in labels.items()}),
        ("unknown_labels", "Labels read from tags that the model does not know, by asset", _unknown_labels(assets)),
        ("wrong_labels", "Late labels unknown or malformed, by asset", wrong),
        ("contradictions", "Samples with two labels, by asset", {k: v["contradictory"] for k, v in labels.items()}),
        *_questions(status["questions"]),
        ("lost", "What could not be kept, by kind", status["lost"]),
        (
            "events_read_again",
            "Events of rows that were read before, under their old keys",
            {"agent": status["event_book"]["read_again"]},
        ),
        ("copies", "Times that the state folder was found restored or copied", {"agent": status["storage"]["copies"]}),
        ("unreadable", "Stored rows that a bad disk has changed", {"inbox": status["inbox"]["unreadable"]}),
    ]


QUESTIONS = {
    "asked": "Questions asked, by what made them worth most",
    "answered": "Questions that got a label, by what made them worth most",
    "expired": "Questions that nobody answered in time",
    "skipped": "Questions that somebody skipped",
    "labelled": "Questions whose window got its label from something else",
    "lost": "Questions whose window is no longer stored",
}


def _questions(table: dict[str, Any]) -> list[tuple[str, str, dict[str, float]]]:
    return [(f"questions_{state}", what, dict(table["counts"].get(state, {}))) for state, what in QUESTIONS.items()]


def _unused(assets: dict[str, Any]) -> dict[str, float]:
    kinds = ("bad", "not_finite", "not_pictures", "late", "before_model", "history_unused", "times_implausible")
    return {
        f"{name}/{kind}": v["counters"][kind] for name, v in assets.items() for kind in kinds if kind in v["counters"]
    }


def _unknown_labels(assets: dict[str, Any]) -> dict[str, float]:
    return {name: entry["tag_labels"]["unknown"] for name, entry in assets.items()}


def _by_channel(assets: dict[str, Any]) -> dict[str, float]:
    return {f"{name}/{channel}": n for name, v in assets.items() for channel, n in v["out_of_range"].items()}


def _sureness(models: dict[str, Any]) -> list[tuple[str, str, dict[str, float]]]:
    """How probabilities are calibrated, and what bounds of estimates hold for."""
    calibrated = {k: v["calibration"] for k, v in models.items() if v["calibration"] is not None}
    bounded = {k: v["intervals"] for k, v in models.items() if v["intervals"] is not None}
    return [
        (
            "calibration_error",
            "How far probabilities were off on held-back units, before and after calibration, by model and which",
            {
                f"{k}/{which}": error
                for k, v in calibrated.items()
                for which, error in zip(("before", "after"), v["error"] or (), strict=False)
            },
        ),
        (
            "interval_units",
            "Held-back units behind the bounds of estimates, by model; 0: of the same units only, or by other sites",
            {k: v["units"] for k, v in bounded.items()},
        ),
        (
            "interval_new_unit",
            "1 where bounds of estimates hold for a new unit, 0: for the same ones only or there are none, by model",
            {k: float(v["for"] == "new unit") for k, v in bounded.items()},
        ),
    ]


def _ready(models: dict[str, Any]) -> list[tuple[str, str, dict[str, float]]]:
    """Whether samples are fit to train on, where a model is trained, in a federation or alone; else nobody looks."""
    entries = {k: v["readiness"] for k, v in models.items() if v["readiness"]["trains"]}
    return [
        (
            "not_ready",
            "1 while stored samples are too few, or lack labels, to train on, by model",
            {k: float(bool(entry["lack"])) for k, entry in entries.items()},
        ),
        (
            "data_remarks",
            "What is doubtful about the stored samples of an asset's machine, how many remarks, by asset",
            {asset: len(said) for entry in entries.values() for asset, said in entry["remarks"].items()},
        ),
    ]


def _moved(assets: dict[str, Any]) -> dict[str, float]:
    return {f"{name}/{c}": found["moved"] for name, v in assets.items() for c, found in v["inputs"]["columns"].items()}


def _gauges(status: dict[str, Any]) -> list[tuple[str, str, dict[str, float]]]:
    outputs, models, assets = status["outputs"], status["models"], status["assets"]
    served = {k: v["release"] for k, v in models.items() if v["release"] is not None}
    private = {k: v["privacy"] for k, v in models.items() if v["privacy"] is not None}
    scores = {k: v["last"]["score"] for k, v in assets.items() if v["last"] is not None}
    conditions = {k: v["condition"] for k, v in assets.items()}
    book, shelved = status["event_book"], status["event_book"]["shelved"]
    known = {k: v["baseline"] for k, v in assets.items() if v["baseline"] is not None}
    baselines = {k: min(1.0, v["covered_ns"] / max(1, v["span_ns"])) for k, v in known.items()}
    ages = {k: v["age_s"] for k, v in conditions.items() if v["age_s"] is not None}
    return [
        (
            "held_sources",
            "1 for a source that is read no further until a machine can decide",
            {k: 1.0 for k, v in status["sources"].items() if v["held"]},
        ),
        (
            "windows_waiting",
            "Windows of a stored past that wait until the model can decide, by asset",
            {k: v["windows_waiting"] for k, v in assets.items()},
        ),
        ("pending", "Events waiting, by output", {k: v["pending"] for k, v in outputs.items()}),
        ("pending_seconds", "Longest wait, by output", {k: v["oldest_s"] or 0.0 for k, v in outputs.items()}),
        ("set_aside", "Events set aside, by output", {k: v["refused"] for k, v in outputs.items()}),
        (
            "duplicates",
            "Events with several orders, by output",
            {k: len(v.get("duplicates", ())) for k, v in outputs.items()},
        ),
        (
            "unwritable",
            "1 for what cannot be written or read now, by file",
            dict.fromkeys([*status["storage"]["problems"], *status["storage"]["unreadable"]], 1.0),
        ),
        (
            "samples_in_memory",
            "Samples that are in memory only, because their file cannot be used",
            {"agent": (status["storage"]["samples_in_memory"] or {"samples": 0})["samples"]},
        ),
        ("damaged_files", "Files set aside and still there", {"agent": len(status["storage"]["damaged"])}),
        ("inbox_bytes", "Readings kept for a restart, bytes", {"agent": status["inbox"]["bytes"]}),
        ("unwritten_events", "Events waiting for the disk", {"agent": status["unwritten_events"]["waiting"]}),
        ("release", "Version that decides, by model", served),
        (
            "own_share",
            "Weight of this site's own model in what decides, 1: it decides alone; none while it does not, by model",
            {k: v["own_share"] for k, v in models.items() if v["own_share"] is not None},
        ),
        (
            "learns_alone",
            "1 where a gateway trains its own model only: no aggregator is joined, or none gave a release, by model",
            {k: float(v["learns"] == "alone") for k, v in models.items()},
        ),
        (
            "release_age_seconds",
            "Since the release that decides was made; none while a clock makes it unknown, by model",
            {k: v["age"]["release_s"] for k, v in models.items() if v["age"]["release_s"] is not None},
        ),
        (
            "releases_refused_in_a_row",
            "Of them, how many since the last release that serves, by model; 0: the newest serves",
            {k: v["refused"]["in_a_row"] for k, v in models.items()},
        ),
        (
            "own_age_seconds",
            "Source time since the newest sample that the own model learnt from, by model",
            {k: v["age"]["own_s"] for k, v in models.items() if v["age"]["own_s"] is not None},
        ),
        (
            "held_units",
            "Whole units (runs, days, machines) held back to judge by, by model; 0: only blocks of the same unit",
            {k: v["judged_by"]["held"] for k, v in models.items()},
        ),
        *_sureness(models),
        *_ready(models),
        (
            "wild_samples",
            "Stored samples left out of limit and training, by model",
            {k: v["left_out"] for k, v in models.items()},
        ),
        (
            "samples_before",
            "Stored samples left out because they were made otherwise (card, window, bearing), by model",
            {k: v["samples_before"] for k, v in models.items()},
        ),
        (
            "samples_without_label",
            "Stored samples that lost their label since the start, as the model has none of that name, by model",
            {k: v["samples_without_label"] for k, v in models.items()},
        ),
        (
            "doubtful_channels",
            "Channels with many values far from all others, by model",
            {k: len(v["doubtful_channels"]) for k, v in models.items()},
        ),
        ("score", "Newest score, by asset", scores),
        (
            "limit_factor",
            "The limit that decides over the one that was learnt, by asset: moved by closed orders",
            {k: v["limit"]["factor"] for k, v in assets.items() if v["limit"] is not None},
        ),
        ("decision_age_seconds", "Since the last decision, by asset; none before the first", ages),
        ("problem", "1 if an asset needs a person, by asset", {k: float(v["problem"]) for k, v in conditions.items()}),
        (
            "gap_share",
            "Share of recent windows with too many gaps, by asset",
            {k: v["gaps"] for k, v in conditions.items()},
        ),
        (
            "outside_share",
            "Share of recent windows outside what was learnt of the machine's inputs, by asset",
            {k: v["inputs"]["outside_share"] for k, v in assets.items() if v["inputs"]["outside_share"] is not None},
        ),
        (
            "drift",
            "1 while a drift of the machine's inputs is open, by asset",
            {k: float(v["inputs"]["open"]) for k, v in assets.items()},
        ),
        (
            "drift_moved",
            "How far a channel is outside what was learnt, in its usual spreads, by asset/channel",
            _moved(assets),
        ),
        ("unmatched_labels", "Labels of no sample, by asset", {k: v["unmatched"] for k, v in status["labels"].items()}),
        (
            "withheld_windows",
            "Windows of undecided events, not learnt from",
            {"agent": book["withheld_windows"]},
        ),
        ("suppressed_events", "Events not sent, by what is shelved", {s["subject"]: s["suppressed"] for s in shelved}),
        (
            "run_limit_factor",
            "By what the limit of an asset is raised on the run at hand; 1: as released",
            {k: v["run"]["factor"] for k, v in assets.items() if v["run"] is not None},
        ),
        (
            "run_limit_windows_left",
            "Windows of coming runs that may be compared with the raised limit, by asset; below 6: no more runs adapt",
            {k: v["run"]["left"] for k, v in assets.items() if v["run"] is not None},
        ),
        (
            "unlike_run",
            "1 for an asset whose run is not like those its limit was made from",
            {k: float(v["run"]["unlike"] is not None) for k, v in assets.items() if v["run"] is not None},
        ),
        ("baseline", "Part of its baseline that an asset has, 1: all", baselines),
        (
            "statistics_sites",
            "Sites of the statistics that this one is compared with, by model; 0: none yet",
            {k: v["statistics"]["sites"] or 0 for k, v in models.items()},
        ),
        (
            "channels_that_differ",
            "Channels unlike those of other sites, by asset",
            {a: len(found) for v in models.values() for a, found in v["statistics"]["stand_out"].items()},
        ),
        ("rss_mib", "Resident memory, MiB", {"agent": status["rss_mib"]}),
        ("questions_open", "Questions that wait for an answer", {"agent": len(status["questions"]["open"])}),
        ("privacy_epsilon", "Privacy budget, by model", {k: v["epsilon"] for k, v in private.items()}),
        ("privacy_epsilon_spent", "Spent of it, by model", {k: v["spent"] for k, v in private.items()}),
        ("privacy_updates_left", "Updates it still pays for, by model", {k: v["left"] for k, v in private.items()}),
        (
            "reachable",
            "1 while the aggregator answers, by model",
            {k: float(v["reachable"]) for k, v in models.items()},
        ),
    ]
