# SPDX-License-Identifier: Apache-2.0
"""A gateway's statistics with a real aggregator: sent once allowed and enough, fetched, compared, and said."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fedge_agent.cli.compare import lines
from fedge_agent.config.schema import ModelConfig
from fedge_agent.durable.spool import Spool
from fedge_agent.federation import own_statistics
from fedge_agent.federation.own_statistics import LEAST_SENT
from fedge_agent.federation.participant import Participant
from fedge_agent.federation.statistics import SOONEST_S
from fedge_agent.federation.uplink import Uplink
from fedge_agent.samples.reservoir import Reservoir
from fedge_agent.samples.store import SampleStore
from fedge_models.messages.statistics import decode_site
from fedge_models.privacy.budget import SitePrivacy
from fedge_models.system.settings import Positive
from support.running_aggregator import RunningAggregator

S = 10**9
PRIVATE = SitePrivacy(clip=1.0, noise_multiplier=1.0, epsilon=8.0, delta=1e-5)


class Site:
    """A gateway with one machine whose channel a is about `level`; its windows are put by hand."""

    def __init__(self, opened: ExitStack, aggregator: RunningAggregator, name: str, level: float) -> None:
        self.name, self.level, self.aggregator = name, level, aggregator
        self.folder = aggregator.folder / name
        self.who = aggregator.enrol(name)
        self.spool = Spool(self.folder / "spool.sqlite")
        opened.callback(self.spool.close)
        self.samples = SampleStore(self.folder / "samples.sqlite", {"pumps": 100})
        opened.callback(self.samples.stop)
        self.link = Uplink(self.who)
        opened.callback(self.link.close)
        self.rng, self.windows = np.random.default_rng(len(name)), 0
        self.begin()

    def begin(self, statistics: bool = True, privacy: SitePrivacy | None = None) -> None:
        """Start, or start again with another configuration."""
        self.machine = Reservoir("pump-1")
        config = ModelConfig(statistics=statistics, privacy=privacy, poll=Positive(0.001))
        self.part = Participant(
            "pumps", config, self.folder / "models", self.samples, self.spool, self.who, self.link,
            lambda *_: None, lambda _: False, machines={"pump-1": self.machine},
        )  # fmt: skip
        self.machine.begin(("a", "b"), S)

    def see(self, windows: int) -> None:
        for _ in range(windows):
            a, b = self.rng.normal(self.level, 0.5, 10), self.rng.normal(100, 1, 10)
            self.machine.take(np.stack([a, b]), self.windows * S)
            self.windows += 1

    def step(self) -> dict[str, Any]:
        """Poll the aggregator; what is said of statistics then."""
        self.part._next_poll = 0.0
        self.part.step()
        found: dict[str, Any] = self.part.statistics.status()
        return found

    def stored(self) -> list[str]:
        return [row.node for row in self.aggregator.app.store.statistics.rows("pumps")]


Make = Any


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Make]:
    with ExitStack() as opened:
        aggregator = RunningAggregator(tmp_path, pumps="quorum = 2\nstatistics_sites = 3")
        opened.callback(aggregator.stop)
        yield lambda name, level=10.0: Site(opened, aggregator, name, level)


def test_nothing_leaves_before_there_are_enough_windows(make: Make) -> None:
    site = make("a")
    site.see(LEAST_SENT - 1)
    assert site.step()["sent"] == 0 and site.stored() == []
    site.see(1)
    assert site.step()["sent"] == 1 and site.stored() == ["a"]


def test_nothing_leaves_unless_the_owner_says_so(make: Make) -> None:
    site = make("a")
    site.begin(statistics=False)
    site.see(500)
    found = site.step()
    assert site.stored() == [] and "set statistics = true in [model.pumps]" in found["off"]
    assert "compare" not in found["lines"] and not ModelConfig().statistics


def test_nothing_leaves_of_a_model_with_a_privacy_budget(make: Make) -> None:
    site = make("a")
    site.begin(privacy=PRIVATE)
    site.see(500)
    found = site.step()
    assert found["wanted"] and "privacy budget" in found["off"] and site.stored() == []


def test_what_is_sent_has_no_value_and_no_extreme_of_the_machine(make: Make) -> None:
    site = make("a")
    site.see(300)
    site.machine.take(np.full((2, 10), 123_456.0), 10**6 * S)
    site.step()
    [row] = site.aggregator.app.store.statistics.rows("pumps")
    found = decode_site(row.body, site.who.key.public_key(), 2)
    first, _, score = found.channels
    assert first is not None and score is None and found.windows == 256
    assert (first.first + len(first.codes)) * first.width < 13 and first.quantile(0.5) == pytest.approx(10, abs=0.3)
    assert len(row.body) < 300


def test_three_sites_see_each_other_and_the_one_that_differs_says_so(make: Make) -> None:
    sites = [make(name, level) for name, level in (("a", 10), ("b", 10.4), ("c", 10_200))]
    for site in sites:
        site.see(200)
        site.step()
    states = [site.step() for site in sites]
    assert [s["sites"] for s in states] == [3, 3, 3]
    assert states[0]["stand_out"] == {"pump-1": []} and states[2]["stand_out"] == {"pump-1": ["a"]}
    [line] = states[2]["lines"]
    assert line.startswith("pump-1 a: 10,200 (10,199–10,201); others ")
    assert "over 2 sites: higher than 2 of 2" in line
    said = list(lines({"pumps": sites[2].part.statistics.comparison()}))
    assert (
        said[0].startswith("model pumps: compared with statistics of 3 sites, as of ")
        and said[1] == "  pump-1: of 200 windows"
    )
    assert said[2].startswith("    a: ") and said[3].startswith("    b: 100 ") and "like the others" in said[3]
    assert said[4] == "    score: no values yet; nothing of other sites yet"


def test_an_older_message_over_sites_is_refused_and_said(make: Make) -> None:
    sites = [make(name) for name in "abc"]
    federation = sites[0].aggregator.app.federation("pumps")
    assert federation is not None
    shared = federation.statistics
    for site in sites:
        site.see(200)
        site.step()
    assert sites[0].step()["number"] == 1
    old = shared._published
    shared._times.clear()  # it hears a node once a minute
    for site in sites:
        site.see(200)
        site.part.statistics._sent_at -= SOONEST_S
        site.step()
    assert sites[0].step()["number"] == 2
    shared._published = old
    found = sites[0].step()
    assert found["number"] == 2 and "number 1, expected one above 2, which is kept" in found["refused"]


def test_updates_and_releases_go_on_where_statistics_are_refused(make: Make) -> None:
    site = make("a")
    site.see(200)
    site.aggregator.app.store.statistics.put("pumps", "a", 2**53, b"later", 0.0)
    found = site.step()
    assert "statistics: Expected" in found["refused"] and site.part.status()["reachable"]
    assert site.part.status()["problem"] is None and site.part.status()["head"] == 1


def test_a_restored_folder_goes_on_above_what_the_aggregator_has(make: Make) -> None:
    site = make("a")
    site.see(200)
    site.aggregator.app.store.statistics.put("pumps", "a", 2**52, b"later", 0.0)
    assert site.step()["sent"] == 1
    [row] = site.aggregator.app.store.statistics.rows("pumps")
    assert decode_site(row.body, site.who.key.public_key(), 2).sequence > 2**52


def test_what_they_are_made_of_is_there_after_a_restart(make: Make) -> None:
    site = make("a")
    site.see(200)
    site.part.stop()
    site.begin()
    assert site.machine.seen == 200


def test_a_damaged_file_is_set_aside_and_said(make: Make) -> None:
    site = make("a")
    site.see(200)
    site.part.stop()
    path = site.folder / "models/statistics.cbor"
    path.write_bytes(path.read_bytes()[:-3] + b"xyz")
    site.begin()
    assert site.machine.seen == 0 and list((site.folder / "models").glob("statistics.cbor.damaged*"))


def test_machines_of_one_model_are_sent_together() -> None:
    held = []
    for level in (10.0, 20.0):
        machine = Reservoir(str(level))
        machine.begin(("a",), S)
        for i in range(100):
            machine.take(np.full((1, 4), level + 0.01 * (i % 10)), i * S)
        held.append(machine.held())
    one, score = own_statistics.histograms(held, 2)
    assert one is not None and score is None
    assert one.quantile(0.25) == pytest.approx(10, abs=1) and one.quantile(0.75) == pytest.approx(20, abs=1)


@pytest.mark.parametrize(("entry", "said"), [
    ({"off": "set statistics = true in [model.m]"}, "not compared with other sites: set statistics"),
    ({"refused": "no \x1b[2J path"}, "not compared with other sites: no \\x1b[2J path"),
    ({"sent": 0}, "statistics are sent from 64 windows on; it has 12"),
    ({"sent": 1}, "too few other sites have sent theirs"),
])  # fmt: skip
def test_compare_says_why_there_is_nothing_to_compare_with(entry: dict[str, Any], said: str) -> None:
    state = {"off": None, "refused": None, "sites": None, "sent": 0, "needs": 64, "windows": 12}
    found = list(lines({"m": {**state, **entry, "machines": {"pump": {"windows": 0, "channels": []}}}}))
    assert said in found[0] and found[1] == "  pump: no window yet"
