# SPDX-License-Identifier: Apache-2.0
"""What a running agent says of itself: its status as plain data, and whether it is well. Each part states its own."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from .durable.event_writer import EventWriter
from .durable.inbox import Inbox
from .durable.progress_writer import ProgressWriter
from .durable.spool import Spool
from .durable.state_folder import StateFolder
from .federation.identity import Identity, without
from .federation.participant import Participant
from .federation.uplink import Uplink
from .health import Latency, rss_mib
from .machines import data_remarks
from .machines.asset import Asset
from .machines.condition import Condition, SourceFacts
from .machines.condition_words import plain
from .machines.main_loop import MainLoop
from .outputs.host import HostedOutput
from .samples.event_book import EventBook
from .samples.label_book import LabelBook
from .samples.question_book import QuestionBook
from .samples.store import SampleStore
from .sources.host import HostedSource, Queue


@dataclass(frozen=True)
class Overview:
    """The parts of an agent, for who looks at it. Any thread may ask."""

    name: str
    started: float  # monotonic, s
    identity: Identity | None
    identity_problem: Callable[[], str | None]  # why there is none
    uplink: Uplink | None
    latency: Latency
    sources: Mapping[str, HostedSource]
    facts: Callable[[], Mapping[str, SourceFacts]]  # what the readings of each source do not say
    queue: Queue
    assets: Mapping[str, Asset]
    loop: MainLoop
    models: Mapping[str, Participant]
    outputs: Mapping[str, HostedOutput]
    events: EventWriter
    progress: ProgressWriter
    folder: StateFolder
    spool: Spool
    inbox: Inbox
    samples: SampleStore
    labels: LabelBook
    book: EventBook
    questions: QuestionBook
    unknown_labels: Callable[[], list[str]]  # in the configuration, of no model

    def status(self) -> dict[str, Any]:
        """The status page, as plain data."""
        conditions = self._conditions()
        assets = {n: {**a.status(), "condition": plain(conditions[n])} for n, a in self.assets.items()}
        return {
            "name": self.name,
            "node": self.identity.node if self.identity else None,
            "aggregator": self.identity.url if self.identity else self.identity_problem() or without(self.folder.path),
            "uptime_s": round(time.monotonic() - self.started, 1),
            "rss_mib": round(rss_mib(), 1),
            "latency": self.latency.status(),
            "sources": {n: s.status() for n, s in self.sources.items()},
            "assets": assets,
            "models": {n: _with_remarks(m.status(), assets) for n, m in self.models.items()},
            "outputs": {n: o.status(self.events.overflowed[n]) for n, o in self.outputs.items()},
            "inbox": {**self.inbox.status(), "problem": self.progress.problem},
            "labels": self.labels.status(),
            "event_book": self.book.status(),
            "questions": self.questions.status(),
            "storage": self._storage(),
            "unwritten_events": {"waiting": self.events.waiting, "problem": self.events.problem},
            "unknown_labels": self.unknown_labels(),
            "lost": self._lost(),
            "bytes_up": self.uplink.bytes_up if self.uplink else 0,
            "bytes_down": self.uplink.bytes_down if self.uplink else 0,
        }

    def decisions(self) -> dict[str, Any]:
        """The recent decisions of each asset."""
        return {name: list(asset.recent()) for name, asset in self.assets.items()}

    def comparison(self) -> dict[str, Any]:
        """The machines beside those of other sites, by model."""
        return {name: model.statistics.comparison() for name, model in self.models.items()}

    def orders(self) -> dict[str, Any]:
        """Events that failed and are tried again, by output: what `fedge-agent order` cannot read from the spool."""
        return {name: output.failing() for name, output in self.outputs.items()}

    def healthy(self) -> bool:
        """Whether the main thread runs, and any asset decides or waits for its model or baseline."""
        conditions = self._conditions().values()
        return not self.loop.stuck and (not conditions or any(c.well for c in conditions))

    def _conditions(self) -> dict[str, Condition]:
        """What each asset can say now."""
        now, facts = time.monotonic(), self.facts()
        return {n: a.condition(facts, now) for n, a in self.assets.items()}

    def _lost(self) -> dict[str, int]:
        """What could not be kept, by kind."""
        return {
            "events": self.events.lost,
            "failures": self.loop.failures,
            "batches": self.queue.dropped,
            "samples": self.samples.lost,
            "kept": self.inbox.dropped,
            "labels": self.labels.lost,
            "book": self.book.lost,
            "databases": self.folder.lost_databases(),
        }

    def _storage(self) -> dict[str, Any]:
        """Which files of the state folder cannot be written now, and which were damaged."""
        problems = {
            "spool": self.spool.problem,
            "inbox": self.inbox.problem,
            "samples": (samples := self.samples.tables.problem),
            "labels": _other_than(samples, self.labels.problem),
            "event book": _other_than(samples, self.book.problem),
            "questions": _other_than(samples, self.questions.problem),
            "state folder": self.folder.problem,
            "running.lock": self.folder.unlocked,
            **{f"models/{n}": m.unwritten for n, m in self.models.items()},
            **{f"outputs/{n}": o.storage_problem for n, o in self.outputs.items()},
        }
        unreadable = ((f"models/{n}/{file}", why) for n, m in self.models.items() for file, why in m.unreadable.items())
        return {
            "problems": {name: text for name, text in problems.items() if text},
            "unreadable": {**self.folder.unreadable, **dict(unreadable)},
            "in_memory": self.spool.in_memory,
            "samples_in_memory": self.samples.held(),
            "identity": self.identity_problem(),
            "moved": self.folder.moved,
            "copied": self.folder.copied,
            "copies": self.folder.copies,
            "damaged": self.folder.damaged(),
        }


def _with_remarks(model: dict[str, Any], assets: Mapping[str, Any]) -> dict[str, Any]:
    """A model's status, with what never became a sample of its machines' data."""
    remarks = model["readiness"]["remarks"]
    for asset in remarks.keys() & assets.keys():
        remarks[asset] += data_remarks.of_windows(assets[asset])
    model["readiness"]["remarks"] = {asset: said for asset, said in remarks.items() if said}
    return model


def _other_than(said: str | None, problem: str | None) -> str | None:
    """A problem, unless it was said already: of the same file."""
    return None if problem == said else problem
