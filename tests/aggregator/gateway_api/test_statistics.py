# SPDX-License-Identifier: Apache-2.0
"""Statistics over the real listener: sent, refused over their cap, fetched by number, and who does not know them takes
part as before."""

from __future__ import annotations

import http.client
from contextlib import closing

import numpy as np
import pytest
from fedge_agent.federation.identity import Identity
from fedge_agent.federation.uplink import Uplink
from fedge_models.errors import RefusedError
from fedge_models.messages.statistics import SiteStatistics, decode_sites, encode_site
from fedge_models.statistics.histogram import describe
from support.running_aggregator import MakeAggregator, RunningAggregator, head_of, submit, update, wait_for_release


def statistics(who: Identity, aggregator: RunningAggregator, level: float, sequence: int = 1) -> bytes:
    federation = aggregator.app.federation("pumps")
    one = describe(np.random.default_rng(0).normal(level, 1, 500))
    assert federation is not None and one is not None
    made = SiteStatistics(
        federation="pumps",
        node=who.node,
        graph=federation.model.graph,
        sequence=sequence,
        windows=128,
        channels=(one, one, None),
    )
    return encode_site(made, who.key)


def test_three_sites_make_statistics_that_each_of_them_fetches_once(make_aggregator: MakeAggregator) -> None:
    aggregator = make_aggregator(pumps="quorum = 2\nstatistics_sites = 3")
    sites = [aggregator.enrol(name) for name in "abc"]
    other = aggregator.enrol("d")
    for i, who in enumerate(sites):
        with closing(Uplink(who)) as link:
            link.submit_statistics("pumps", statistics(who, aggregator, 10 + i))
    with closing(Uplink(sites[0])) as link:
        assert link.statistics_number("pumps") == 0
        assert link.fetch_release("pumps", 1, 1 << 20) is None  # a 304, which says so, too
        assert link.statistics_number("pumps") == 1
        body = link.fetch_statistics("pumps", 0, 4096)
        assert body is not None
        found = decode_sites(body, sites[0].release_key, 2)
        assert found.sites == 3 and found.channels[0] is not None and found.channels[2] is None
        assert link.fetch_statistics("pumps", 1, 4096) is None
    with closing(Uplink(other)) as link:
        link.fetch_release("pumps", 0, 1 << 20)
        assert link.statistics_number("pumps") == 0 and link.fetch_statistics("pumps", 0, 4096) is None
    metrics = aggregator.app._metrics.text().decode()
    assert 'fedge_aggregator_statistics_sites{federation="pumps"} 3.0' in metrics
    assert 'fedge_aggregator_statistics_accepted_total{federation="pumps"} 3.0' in metrics


def test_gateways_that_know_nothing_of_statistics_take_part_beside_others(aggregator: RunningAggregator) -> None:
    old, new = aggregator.enrol("a"), aggregator.enrol("b")
    with closing(Uplink(new)) as link:
        link.submit_statistics("pumps", statistics(new, aggregator, 10))
    first = head_of(old)
    for who in (old, new):
        submit(who, update(who, first))
    wait_for_release(aggregator, 2)
    assert head_of(old, first).header.figures["nodes"] == 2


def test_statistics_of_no_member_and_over_their_cap_are_refused(aggregator: RunningAggregator) -> None:
    who = aggregator.enrol("a")
    with closing(Uplink(who)) as link:
        with pytest.raises(RefusedError, match="expected at most"):
            link.submit_statistics("pumps", bytes(100_000))
        link.submit_statistics("pumps", statistics(who, aggregator, 10))
    bare = http.client.HTTPSConnection(aggregator.app.address, context=who.context())
    bare.request("POST", "/v1/federations/fans/statistics", b"x")
    assert bare.getresponse().status == 403
    bare.close()
