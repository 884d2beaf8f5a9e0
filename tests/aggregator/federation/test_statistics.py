# SPDX-License-Identifier: Apache-2.0
"""Statistics of sites: who gets what when, that each site counts once, and that hostile ones are refused and move
little."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from fedge_aggregator.config.load import load
from fedge_aggregator.federation.site_statistics import LEAST_S, OLD_S
from fedge_aggregator.rounds.trust.reputation import Reputation
from fedge_models.errors import (
    ConfigError,
    RefusedError,
    ReplayError,
    RetryError,
    SignatureError,
    StaleError,
    WireError,
)
from fedge_models.messages.statistics import SitesStatistics, SiteStatistics, decode_sites, encode_site
from fedge_models.statistics.histogram import Histogram, describe
from support.federation_bench import FederationBench, MakeBench

NODES = "abcdefghij"


def histogram(level: float, spread: float = 1.0) -> Histogram:
    made = describe(np.random.default_rng(abs(int(level))).normal(level, spread, 1000))
    assert made is not None
    return made


class Sites:
    """Sites of federation `f` that send statistics of channels a and b."""

    def __init__(self, bench: FederationBench, nodes: str = NODES) -> None:
        self.bench, bench.now = bench, time.time()  # as for the commands
        for name in nodes:
            if name not in bench.keys:
                bench.keys[name] = Ed25519PrivateKey.from_private_bytes(name.encode() * 32)
                bench.join(name, bench.keys[name])
        self.levels = {name: 10.0 + i for i, name in enumerate(NODES)}

    def message(self, name: str, **changes: Any) -> bytes:
        self.bench.sequence += 1
        level = self.levels[name]
        fields = {
            "federation": "f",
            "node": name,
            "graph": self.bench.federation.model.graph,
            "sequence": self.bench.sequence,
            "windows": 256,
            "channels": (histogram(level), histogram(100 + level), None),
        }
        return encode_site(SiteStatistics(**{**fields, **changes}), self.bench.keys[name])

    def send(self, name: str, body: bytes | None = None, after: float = LEAST_S, **changes: Any) -> bool:
        self.bench.now += after
        node = self.bench.store.node(name)
        assert node is not None
        return self.bench.federation.admit_statistics(node, body or self.message(name, **changes), self.bench.now)

    def fetch(self, name: str, have: int = 0) -> SitesStatistics | None:
        body = self.bench.federation.statistics.body_for(name, have)
        key = self.bench.authority.release_key.public_key()
        return None if body is None else decode_sites(body, key, 2)

    def shown(self, *words: str) -> Any:
        return self.bench.cli("statistics", "f", *words)


@pytest.fixture
def sites(make_bench: MakeBench) -> Sites:
    return Sites(make_bench())


def test_nothing_is_published_before_five_sites_contributed(sites: Sites) -> None:
    for name in "abcd":
        assert sites.send(name)
        assert sites.fetch("a") is None
    sites.send("e")
    found = sites.fetch("a")
    assert found is not None and found.number == 1 and found.sites == 5
    first, second, score = found.channels
    assert first is not None and second is not None and score is None
    assert first.usual[1] == pytest.approx(12, abs=0.5) and second.usual[1] == pytest.approx(112, abs=0.5)
    assert sites.fetch("a", have=1) is None


def test_who_contributes_nothing_gets_nothing(sites: Sites) -> None:
    for name in "abcde":
        sites.send(name)
    assert sites.fetch("f") is None
    assert sites.bench.federation.statistics.number_for("f") == 0


def test_a_channel_that_too_few_sites_have_is_left_out(sites: Sites) -> None:
    for name in "abcde":
        channels = (histogram(10), None if name == "e" else histogram(100), None)
        sites.send(name, channels=channels)
    found = sites.fetch("a")
    assert found is not None and [c is None for c in found.channels] == [False, True, True]


def test_what_is_published_next_differs_by_three_sites_at_least(sites: Sites) -> None:
    """Else the difference of the two would show the histogram of the one that came between them."""
    for name in "abcde":
        sites.send(name)
    for name in "fg":
        sites.send(name)
        assert sites.bench.federation.statistics.number == 1
    sites.levels["a"] += 5
    sites.send("a")
    found = sites.fetch("a", have=1)
    assert found is not None and found.number == 2 and found.sites == 7


def test_the_same_histograms_sent_again_are_no_change(sites: Sites) -> None:
    """Else two gateways that send theirs again uncover the site that came: six times one minus five times the other."""
    for name in "abcde":
        sites.send(name)
    sites.send("f")
    for name in "abab":
        assert sites.send(name)
        assert sites.bench.federation.statistics.number == 1
    for name in "ab":
        sites.levels[name] += 5
        sites.send(name)
    assert sites.bench.federation.statistics.number == 2


def test_a_column_that_two_sites_changed_stays_as_it_was_published(sites: Sites) -> None:
    """A score that few sites have yet comes and goes apart from the channels."""
    for name in "abcde":
        sites.send(name, channels=(histogram(10), histogram(100), histogram(0)))
    first = sites.fetch("a")
    for name, score in (("f", histogram(5)), ("a", histogram(0)), ("b", histogram(0))):
        sites.send(name, channels=(histogram(20), histogram(200), score))
    second = sites.fetch("a")
    assert first is not None and second is not None and (second.number, second.sites) == (2, 6)
    assert second.channels[2] == first.channels[2] and second.channels[2] is not None
    assert second.channels[0] is not None and second.channels[0].sites == 6
    for name in "cd":
        sites.send(name, channels=(histogram(10), histogram(100), histogram(2)))
    third = sites.fetch("a")
    assert third is not None and third.channels[2] is not None and third.channels[2].sites == 6
    assert third.channels[0] == second.channels[0]  # c and d sent theirs again, nobody came or left


def test_a_site_that_leaves_counts_as_one_that_changed(sites: Sites) -> None:
    """Alone it is never what two publications differ by."""
    for name in "abcdefg":
        sites.send(name)
    for name in "ab":  # f and g came after the first
        sites.levels[name] += 5
        sites.send(name)
    number = sites.bench.federation.statistics.number
    sites.bench.store.revoke("g", sites.bench.now)
    for name in "abc":  # the same again
        sites.send(name)
        assert sites.bench.federation.statistics.number == number
    sites.levels["c"] += 5
    sites.send("c")
    assert sites.bench.federation.statistics.number == number + 1
    found = sites.fetch("a")
    assert found is not None and found.channels[0] is not None and found.channels[0].sites == 6


def test_statistics_whose_basis_is_not_known_change_from_what_there_is(sites: Sites) -> None:
    for name in "abcde":
        sites.send(name)
    with sites.bench.store.transaction() as db:
        db.execute("DELETE FROM statistics_bases")  # a database from before there were any
    sites.bench.open()
    for name in "abcabc":
        sites.send(name)
    assert sites.bench.federation.statistics.number == 1
    for name in "abc":
        sites.levels[name] += 5
        sites.send(name)
    assert sites.bench.federation.statistics.number == 2


def test_extremes_of_single_sites_are_not_published(sites: Sites) -> None:
    sites.levels["a"], sites.levels["b"] = 9000.0, -9000.0
    for name in "abcdefg":
        sites.send(name)
    found = sites.fetch("c")
    assert found is not None and found.channels[0] is not None
    over = found.channels[0]
    assert min(over.medians) * over.width > 0 and max(over.medians) * over.width < 20


@pytest.mark.parametrize("hostile", [1e30, -1e30, 1e-30])
def test_three_hostile_sites_of_ten_do_not_shift_what_is_usual(sites: Sites, hostile: float) -> None:
    for name in NODES[:7]:
        sites.levels[name] = 12 + 0.1 * ord(name) % 1
        sites.send(name)
    wild = describe(np.full(1000, hostile))
    for name in NODES[7:]:
        sites.send(name, channels=(wild, wild, wild), windows=2**20)
    for name in "abc":
        sites.levels[name] += 0.1
        sites.send(name)
    found = sites.fetch("a")
    assert found is not None and found.sites == 10 and found.channels[0] is not None
    assert 11.5 < found.channels[0].usual[1] < 13.5


@pytest.mark.parametrize(
    ("changes", "error", "said"),
    [
        ({"node": "b"}, WireError, "signed as b for f, but came from a"),
        ({"federation": "g"}, WireError, "for g"),
        ({"graph": bytes(32)}, StaleError, "another model file"),
        ({"channels": (histogram(1),) * 2}, WireError, "2 channels, expected 2 and the score"),
        ({"channels": (histogram(1),) * 9}, WireError, "9 channels"),
        ({"channels": (Histogram(0, 1, bytes(4)),) * 3}, WireError, "counts nothing"),
        ({"channels": (Histogram(0, 2**40, b"\xff"),) * 3}, WireError, "<= 16777216"),
        ({"windows": 2**40}, WireError, "<= 1048576"),
    ],
)
def test_hostile_statistics_are_refused_and_logged(
    sites: Sites, changes: dict[str, Any], error: type[RefusedError], said: str
) -> None:
    with pytest.raises(error, match=said):
        sites.send("a", **changes)
    [(node, reason)] = sites.bench.audit("refusal")
    assert node == "a" and said in reason
    assert not sites.bench.store.statistics.rows("f")


def test_another_nodes_signature_is_refused(sites: Sites) -> None:
    with pytest.raises(SignatureError):
        sites.send("a", sites.message("b"))


def test_a_replay_is_refused_and_an_exact_repeat_is_stored_once(sites: Sites) -> None:
    old, new = sites.message("a"), sites.message("a")
    assert sites.send("a", new) and not sites.send("a", new)
    with pytest.raises(ReplayError) as caught:
        sites.send("a", old)
    assert caught.value.last == sites.bench.sequence


def test_one_node_is_taken_once_a_minute(sites: Sites) -> None:
    sites.send("a")
    with pytest.raises(RetryError, match="less than 60 s ago"):
        sites.send("a", after=1)
    assert sites.send("a", after=LEAST_S)


def test_statistics_of_revoked_quarantined_and_silent_sites_do_not_count(sites: Sites) -> None:
    for name in "abcdefg":
        sites.send(name)
    bench = sites.bench
    bench.store.revoke("a", bench.now)
    bench.store.round_states.set_reputation("f", "b", Reputation(quarantined_since=bench.now, quarantined_until=2e9))
    assert bench.federation.statistics.sites(bench.now) == 5
    assert sites.shown("--json")["f"]["left_out"] == ["b"]
    assert bench.federation.statistics.sites(bench.now + OLD_S) == 0


def test_they_are_durable_and_published_on_after_a_restart(sites: Sites) -> None:
    for name in "abcde":
        sites.send(name)
    sites.bench.open()
    found = sites.fetch("e")
    assert found is not None and found.number == 1
    assert sites.bench.federation.statistics.status(sites.bench.now)["sites"] == 5


PRIVACY = "privacy = { clip = 1.0, noise_multiplier = 2.0, epsilon = 8.0, delta = 1e-5 }\n"


@pytest.mark.parametrize(("keys", "why"), [("statistics_sites = 0\n", "statistics_sites is 0"), (PRIVACY, "privacy")])
def test_a_federation_may_take_none_and_says_why(make_bench: MakeBench, keys: str, why: str) -> None:
    made = Sites(make_bench(keys), "abcd")
    with pytest.raises(RefusedError, match=f"takes no statistics: .*{why}"):
        made.send("a")
    assert why in made.shown()


@pytest.mark.parametrize("count", [1, 2])
def test_a_number_of_sites_that_protects_nobody_is_no_configuration(tmp_path: Path, count: int) -> None:
    path = tmp_path / "aggregator.toml"
    path.write_text(
        f'[aggregator]\nstate = "s"\naddresses = ["127.0.0.1"]\n[federation.f]\nstatistics_sites = {count}\n'
    )
    with pytest.raises(ConfigError, match=f"federation.f.statistics_sites': got {count}; expected 3 or more"):
        load(path)


def test_the_operator_sees_which_sites_stand_out_and_why(sites: Sites) -> None:
    for name, level in zip("abcdefgh", (10, 10.4, 10.8, 11.2, 11.6, 12, 12.4, 12.8), strict=True):
        sites.levels[name] = level
    milli = histogram(11_000, 1000)
    constant = describe(np.full(1000, 111.0))
    for name in "abcdef":
        sites.send(name)
    sites.send("g", channels=(milli, histogram(111), None))
    sites.send("h", channels=(histogram(12), constant, None))
    lines = sites.shown().splitlines()
    assert lines[0].startswith("f: statistics of 8 sites, number 2 published")
    [milli_line] = [line for line in lines if line.startswith("    g: ")]
    assert "higher than 7 of 7" in milli_line and "1,000 times too large" in milli_line
    assert any(line.startswith("    h: 111 ") and "constant here" in line for line in lines)
    table = sites.shown("--json")["f"]
    assert [c["channel"] for c in table["channels"]] == ["a", "b", "score"]
    assert table["channels"][0]["stand_out"][0] == "g" and table["published"] == 2
    assert set(table["channels"][0]["of_sites"]) == set("abcdefgh")
    assert sum(table["channels"][0]["histogram"]["shares"]) == pytest.approx(1, abs=0.01)
    assert len(sites.shown("--sites").splitlines()) > len(lines)


def test_of_no_and_of_two_sites_it_says_what_is_missing(sites: Sites) -> None:
    assert "no site has sent statistics yet: set statistics = true in [model.f]" in sites.shown()
    for name in "ab":
        sites.send(name)
    said = sites.shown()
    assert "a: 2 sites, too few to compare" in said and "not published to gateways yet: a channel needs 5" in said
    assert "    a: 10" in said or "    a: 9.9" in said
