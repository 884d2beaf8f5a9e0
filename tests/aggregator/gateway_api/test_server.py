# SPDX-License-Identifier: Apache-2.0
"""The real listener with real TLS clients: releases, updates, and the state of the round in the answers."""

from __future__ import annotations

import http.client
import sqlite3
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from fedge_agent.federation.uplink import Uplink
from fedge_models.errors import RefusedError, StaleError, UnreachableError
from fedge_models.messages.quantize import LIMIT
from support.federation_bench import GRAPH, MODEL
from support.running_aggregator import MakeAggregator, RunningAggregator, head_of, submit, update, wait_for_release
from support.waiting import LONGEST_S, until


def test_two_gateways_make_a_release(aggregator: RunningAggregator) -> None:
    a, b = aggregator.enrol("a"), aggregator.enrol("b")
    first = head_of(a)
    np.testing.assert_array_equal(first.weights, GRAPH.params)
    submit(a, update(a, first))
    submit(b, update(b, first))
    wait_for_release(aggregator, 2)
    second = head_of(a, first)
    step = 0.1 / LIMIT
    np.testing.assert_allclose(second.weights - first.weights, 5 * step, rtol=0.02)
    late = head_of(b)
    assert late.weights.tobytes() == second.weights.tobytes()
    assert second.header.figures["nodes"] == 2


def test_release_that_is_held_is_not_sent_again(aggregator: RunningAggregator) -> None:
    with closing(Uplink(aggregator.enrol("a"))) as link:
        assert link.fetch_release("pumps", 1, 1 << 20) is None


def test_model_file_comes_whole(aggregator: RunningAggregator) -> None:
    with closing(Uplink(aggregator.enrol("a"))) as link:
        assert link.fetch_model("pumps") == MODEL


def test_exact_repeat_is_accepted_again_and_counts_once(aggregator: RunningAggregator) -> None:
    a = aggregator.enrol("a")
    aggregator.enrol("b")
    body = update(a, head_of(a))
    submit(a, body)
    submit(a, body)
    assert list(aggregator.app.store.updates.arrivals("pumps")) == ["a"]


def test_replayed_sequence_is_refused(aggregator: RunningAggregator) -> None:
    a, b = aggregator.enrol("a"), aggregator.enrol("b")
    first = head_of(a)
    submit(a, update(a, first, sequence=7))
    submit(b, update(b, first))
    wait_for_release(aggregator, 2)
    with pytest.raises(StaleError, match="replay"):
        submit(a, update(a, head_of(a, first), sequence=7, samples=5))


def test_second_update_in_a_round_is_refused(aggregator: RunningAggregator) -> None:
    a = aggregator.enrol("a")
    aggregator.enrol("b")
    head = head_of(a)
    submit(a, update(a, head))
    with pytest.raises(StaleError, match="already has an update in the round after release 1"):
        submit(a, update(a, head, sequence=2))


def test_update_against_an_unknown_base_is_refused(aggregator: RunningAggregator) -> None:
    a = aggregator.enrol("a")
    with pytest.raises(StaleError, match="not the one published here"):
        submit(a, update(a, head_of(a), base_hash=bytes(32)))


def test_update_in_anothers_name_is_refused(aggregator: RunningAggregator) -> None:
    a = aggregator.enrol("a")
    aggregator.enrol("b")
    with pytest.raises(RefusedError, match="came from a"):
        submit(a, update(a, head_of(a), node="b"))


def test_update_signed_by_another_key_is_refused(aggregator: RunningAggregator) -> None:
    a = aggregator.enrol("a")
    forged = update(replace(a, key=Ed25519PrivateKey.generate()), head_of(a))
    with pytest.raises(RefusedError, match="signature"):
        submit(a, forged)


def test_restart_resumes_the_same_round(make_aggregator: MakeAggregator) -> None:
    aggregator = make_aggregator()
    a, b = aggregator.enrol("a"), aggregator.enrol("b")
    head = head_of(a)
    submit(a, update(a, head))
    aggregator.stop()
    again = make_aggregator()
    assert list(again.app.store.updates.arrivals("pumps")) == ["a"]
    moved = replace(b, url=again.url)
    submit(moved, update(moved, head))
    wait_for_release(again, 2)


def test_sampled_round_tells_each_gateway_whether_it_is_asked(make_aggregator: MakeAggregator) -> None:
    aggregator = make_aggregator(deadline="1h", pumps="quorum = 1\nshare = 0.5\nmargin = 0.0")
    gateways = {name: aggregator.enrol(name) for name in "abcd"}
    federation = aggregator.app.federation("pumps")
    assert federation is not None
    federation.step(time.time(), set(gateways))
    links = {name: Uplink(who) for name, who in gateways.items()}
    for link in links.values():
        assert link.fetch_release("pumps", 1, 1 << 20) is None  # a 304 has the state of the round too
    asked = [name for name, link in links.items() if link.asked("pumps")]
    assert asked == sorted(federation.round().asked) and len(asked) == 2
    head = head_of(gateways["a"])
    left = min(set(gateways) - set(asked))
    with pytest.raises(StaleError, match=f"node {left} is not asked"):
        submit(gateways[left], update(gateways[left], head))
    for name in asked:
        submit(gateways[name], update(gateways[name], head))
    wait_for_release(aggregator, 2)
    for link in links.values():
        link.close()


def test_sampled_round_begins_when_somebody_joins(make_aggregator: MakeAggregator) -> None:
    aggregator = make_aggregator(pumps="quorum = 1\nshare = 0.5")
    aggregator.enrol("a")
    federation = aggregator.app.federation("pumps")
    assert federation is not None
    until(lambda: federation.round().asked, lambda: federation.status(time.time(), {"a"}))


def test_unreachable_aggregator_says_so(aggregator: RunningAggregator) -> None:
    a = aggregator.enrol("a")
    nowhere = replace(a, url="https://127.0.0.1:9")
    with pytest.raises(UnreachableError, match=r"127\.0\.0\.1:9"):
        Uplink(nowhere).fetch_model("pumps")


def test_status_and_metrics_tell_of_the_round(aggregator: RunningAggregator) -> None:
    a = aggregator.enrol("a")
    status = aggregator.app.status()["federations"]
    assert set(status) == {"pumps", "fans"} and status["pumps"]["release"] == 1
    assert "0 of 1 updates: fewer nodes take part than the quorum of 2" in status["pumps"]["waiting"]
    assert "not heard from since the start: a" in status["pumps"]["waiting"]
    with closing(Uplink(a)) as link:
        link.fetch_release("pumps", 1, 1 << 20)
    waiting = aggregator.app.status()["federations"]["pumps"]["waiting"]
    assert "heard, but no update in this round: a (0 s ago)" in waiting


def test_metrics_are_those_of_the_moment(aggregator: RunningAggregator) -> None:
    a = aggregator.enrol("a")
    aggregator.enrol("b")
    body = update(a, head_of(a))
    for sent in (0, 1):
        page = http_get(aggregator, "/metrics")
        for name, value in (("round_updates", sent), ("nodes", 2), ("release", 1), ("quarantined", 0)):
            assert f'fedge_aggregator_{name}{{federation="pumps"}} {value:.1f}' in page
        submit(a, body)


def http_get(aggregator: RunningAggregator, path: str) -> str:
    host, _, port = (aggregator.folder / "state/status.addr").read_text().rpartition(":")
    with closing(http.client.HTTPConnection(host, int(port), timeout=LONGEST_S)) as page:
        page.request("GET", path)
        return page.getresponse().read().decode()


def test_updates_that_come_at_once_are_each_durable_before_they_are_accepted(make_aggregator: MakeAggregator) -> None:
    aggregator = make_aggregator(deadline="1h")
    names = [f"n{i:02d}" for i in range(24)]
    everyone = [aggregator.enrol(n) for n in names]
    aggregator.enrol("absent")  # so that the round stays open
    head = head_of(everyone[0])
    links = [Uplink(who) for who in everyone]
    bodies = [update(who, head) for who in everyone]
    bodies[5] = update(everyone[5], head, base_hash=bytes(32))

    def send(i: int) -> list[str]:
        links[i].submit("pumps", bodies[i])
        with closing(
            sqlite3.connect(aggregator.folder / "state/aggregator.sqlite")
        ) as db:  # as another process sees it
            return [node for (node,) in db.execute("SELECT node FROM updates WHERE node = ?", (names[i],))]

    with ThreadPoolExecutor(len(names)) as pool:
        sent = [pool.submit(send, i) for i in range(len(names))]
    for link in links:
        link.close()
    aggregator.stop()
    assert isinstance(sent.pop(5).exception(), StaleError)
    names.pop(5)
    assert [s.result() for s in sent] == [[n] for n in names]
