# SPDX-License-Identifier: Apache-2.0
"""What is seen of a rehearsal while it runs, and when it is over. The clock is passed in."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

from fedge_agent.cli import status_assets, status_lines

from .plan import Plan

_FIGURES = re.compile(r"\d[\d.,]*")
QUIET_S = 45.0  # without a new round after the recordings were played: there will be none
SETTLE_S = 2.0  # after the last reading, for the last windows to be decided
UNREAD_S = 30.0  # without a new reading after everything was handed over: there will be none


@dataclass
class Watch:
    """The newest statuses, and every problem with when it was first seen."""

    plan: Plan
    rounds: int  # that each federation is to make
    statuses: dict[str, dict[str, Any]] = field(default_factory=dict)
    aggregator: dict[str, Any] | None = None
    use: dict[str, tuple[float, float]] = field(default_factory=dict)
    seen: dict[str, dict[str, tuple[str, float]]] = field(default_factory=dict)  # gateway -> likeness -> problem, s
    lines: dict[str, list[str]] = field(default_factory=dict)  # gateway -> what `status` says of assets and models
    now: dict[str, list[str]] = field(default_factory=dict)  # gateway -> problems at the last look
    _progress: tuple[Any, float] = (
        None,
        0.0,
    )  # rounds of the federations that are short of them, and when they changed
    _reading: tuple[Any, float] = (None, 0.0)  # readings, and when they changed
    _still: dict[tuple[str, str], tuple[int, float]] = field(default_factory=dict)  # the same of each source
    _last: dict[tuple[str, str], dict[str, Any]] = field(default_factory=dict)  # (gateway, asset) -> what is said of it

    def look(self, statuses: dict[str, dict[str, Any]], aggregator: dict[str, Any] | None, at: float) -> None:
        """Take the newest statuses; `at`: s after the beginning."""
        self.statuses, self.aggregator = statuses, aggregator
        made, read = self.short(), self.readings()
        self._progress = self._progress if made == self._progress[0] else (made, at)
        self._reading = self._reading if read == self._reading[0] else (read, at)
        for source, count in read.items():
            if count != self._still.get(source, (None, 0.0))[0]:
                self._still[source] = count, at
        for name, status in statuses.items():
            self._take(name, {**status, "assets": self._assets(name, status["assets"], at)}, at)

    def _assets(self, name: str, entries: dict[str, Any], at: float) -> dict[str, Any]:
        """What is said of assets; of one whose recordings are over, what was said then: its silence is no news."""
        reads = self.plan.gateways[name].reads
        for asset, entry in entries.items():
            if not all(self._is_over(name, source, at) for source in reads[asset]):
                self._last[name, asset] = entry
        return {asset: self._last.get((name, asset), entry) for asset, entry in entries.items()}

    def _is_over(self, name: str, source: str, at: float) -> bool:
        """Whether a recording was played and read, some time ago."""
        played = self.plan.gateways[name].feeds[source].done and source not in self.unread().get(name, {})
        return played and at - self._still[name, source][1] > 2 * SETTLE_S

    def _take(self, name: str, status: dict[str, Any], at: float) -> None:
        """Note the lines and problems of one gateway."""
        own = status_assets.lines(status["assets"])
        rest = status_lines.lines(status, self.plan.gateways[name].config)[len(own) :]
        found = [problem for _, problems in own for problem in problems]
        found += [_named(line.text, problem) for line in rest for problem in line.problems]
        self.now[name] = found
        models = [line.text for line in rest if line.text.startswith("model ")]
        self.lines[name] = [*(text for text, _ in own if text), *models]
        seen = self.seen.setdefault(name, {})
        for problem in found:
            seen.setdefault(alike(problem), (problem, at))

    def releases(self) -> dict[str, int]:
        """Federation -> rounds that were made: its first release is the model's file."""
        found = (self.aggregator or {}).get("federations", {})
        return {name: max(0, (entry["release"] or 1) - 1) for name, entry in found.items()}

    def readings(self) -> dict[tuple[str, str], int]:
        """(gateway, source) -> readings that its agent took."""
        return {
            (name, source): entry["readings"]
            for name, status in self.statuses.items()
            for source, entry in status["sources"].items()
        }

    def unread(self) -> dict[str, dict[str, int]]:
        """Gateway -> source -> values that its agent has not taken yet."""
        read = self.readings()
        left = {
            name: {s: n - read.get((name, s), 0) for s, n in gateway.expected.items() if n > read.get((name, s), 0)}
            for name, gateway in self.plan.gateways.items()
        }
        return {name: sources for name, sources in left.items() if sources}

    def short(self) -> dict[str, int]:
        """Federation -> rounds that were made, where these are fewer than wanted."""
        return {name: made for name, made in self.releases().items() if made < self.rounds}

    def _is_held(self) -> bool:
        """Whether a gateway reads no further for now, because a machine waits for its model or its limit."""
        return any(entry["held"] for status in self.statuses.values() for entry in status["sources"].values())

    def line(self, played: bool, at: float) -> str:
        """One line for people."""
        statuses, left = self.statuses.values(), sum(n for those in self.unread().values() for n in those.values())
        made = ", ".join(f"{name} {n}" for name, n in self.releases().items())
        decided = sum(s["latency"]["decisions"] for s in statuses)
        events = sum(a["events"] for s in statuses for a in s["assets"].values())
        served = not played and any(gateway.machines for gateway in self.plan.gateways.values())
        to_come = f"{left:,} values to come{' and what servers replay' if served else ''}"
        return f"{at:4.0f} s  {to_come}  decided {decided:,}  events {events}  rounds {made or '-'}"

    def over(self, handed_over: bool, at: float) -> bool:
        """Whether everything was replayed, decided and delivered, and the rounds were made, or will not be."""
        if not handed_over:
            return False
        if self.unread() and (self._is_held() or at - self._reading[1] < UNREAD_S):
            return False
        if at - self._reading[1] < SETTLE_S:
            return False
        waiting = sum(o["pending"] for s in self.statuses.values() for o in s["outputs"].values())
        if waiting and at - self._reading[1] < UNREAD_S:
            return False
        return not self.short() or at - max(self._progress[1], self._reading[1]) >= QUIET_S


def alike(problem: str) -> str:
    """A problem without its figures: at each look these are others."""
    return _FIGURES.sub("N", problem)


def _named(line: str, problem: str) -> str:
    """A problem with what it is of: the beginning of its line."""
    what = line.partition(":")[0]
    return f"{what}: {problem}" if what else problem
