# SPDX-License-Identifier: Apache-2.0
"""The start value of tensors that stay at the sites, on a federation's real store: attacks, restarts, privacy."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from fedge_aggregator.federation.add_model import still_start
from fedge_aggregator.federation.publish import Published
from fedge_models.errors import RefusedError
from fedge_models.graph import zoo
from fedge_models.graph.card import Card, Channel, WindowSpec
from fedge_models.graph.trainable import TrainableGraph
from fedge_models.messages.quantize import LIMIT, expand
from fedge_models.training.personal import local_mask
from fedge_models.training.start_value import LEAST_SPREAD, of_tensors
from support.federation_bench import FederationBench, MakeBench


def model(start: str) -> bytes:
    shape = (Channel("a"), Channel("b")), WindowSpec(1, 10, 5), ("mean", "std"), ("ok", "bad"), "ok"
    card = Card("classify", *shape, local="dense1.*", local_start=start)  # type: ignore[arg-type]
    return zoo.mlp(card, 4, (8,)).SerializeToString()


SHARED, FILE = model("shared"), model("file")
GRAPH = TrainableGraph.load(SHARED)
MASK = local_mask(GRAPH)
TENSORS = of_tensors(MASK, GRAPH.sizes)
OFFER = np.full(len(GRAPH.sizes), 0.1, np.float32)
SILENT = np.where(TENSORS, LEAST_SPREAD, OFFER).astype(np.float32)


class Site:
    """A site that trains: its own tensors stay where they are, and its averaged ones follow the others'."""

    def __init__(self, name: str, own: float, seed: int) -> None:
        self.name, self.own = name, np.full(int(MASK.sum()), own, np.float32)
        self._rng = np.random.default_rng(seed)

    def send(self, bench: FederationBench, release: Published | None = None, **changes: Any) -> None:
        release = release or bench.federation.current
        changes |= {"base_version": release.header.version, "base_hash": release.hash}
        grid = expand(release.header.steps, GRAPH.sizes)
        codes = np.rint(30 * np.sin(np.arange(len(MASK))) + self._rng.normal(0, 10, len(MASK)))
        codes[MASK] = (self.own - release.weights[MASK]) / grid[MASK]
        table = {"codes": np.clip(np.rint(codes), -LIMIT, LIMIT).astype(np.int8), "spread": OFFER, **changes}
        bench.send(self.name, **table)


def play(bench: FederationBench, sites: list[Site], rounds: int, **changes: Any) -> np.ndarray:
    """The release's values of what stays at the sites, afterwards."""
    for _ in range(rounds):
        for site in sites:
            site.send(bench, **changes)
        before = bench.federation.current.header.version
        assert bench.step("".join(s.name for s in sites)) == before + 1
    return bench.federation.current.weights[MASK]


def honest(*own: float) -> list[Site]:
    return [Site(name, value, k) for k, (name, value) in enumerate(zip("abcd", own, strict=False))]


def test_release_follows_the_site_in_the_middle_and_quarantines_no_honest_one(make_bench: MakeBench) -> None:
    made = make_bench("quorum = 2\n", model=SHARED)
    start = play(made, honest(-0.7, 0.6, 0.1), 12)
    np.testing.assert_allclose(start, 0.1, atol=0.02)
    newest = made.store.releases.listed("f")[-1]
    assert newest.details["start_value_of_sites"] == 3 and not made.audit("trust")
    assert made.federation.quarantined() == made.federation.doubted() == 0
    assert "start_value_of_sites" in made.cli("release", "show", "f")
    made.open()  # as after a restart
    np.testing.assert_allclose(play(made, honest(-0.7, 0.6, 0.3), 4), 0.3, atol=0.02)


def test_file_keeps_its_values_whatever_sites_say_of_them(make_bench: MakeBench) -> None:
    made = make_bench("quorum = 2\n", model=FILE)
    assert (play(made, honest(-0.7, 0.6, 5.0), 4) == GRAPH.params[MASK]).all()
    assert "start_value_of_sites" not in made.store.releases.listed("f")[-1].details


@pytest.mark.parametrize("extreme", [LIMIT, -LIMIT])
def test_extreme_start_value_of_a_hostile_site_stays_within_the_honest_range(
    make_bench: MakeBench, extreme: int
) -> None:
    made = make_bench("quorum = 2\n", model=SHARED)
    sites, hostile = honest(-0.3, 0.2, 0.4), Site("d", 0.0, 9)
    for _ in range(12):
        for site in sites:
            site.send(made)
        codes = np.where(MASK, extreme, 30 * np.sin(np.arange(len(MASK))))
        made.send("d", codes=np.rint(codes).astype(np.int8), spread=np.full_like(OFFER, 1e6))
        made.step()
    start = made.federation.current.weights[MASK]
    assert (start > -0.35).all() and (start < 0.45).all(), (start.min(), start.max())
    assert made.federation.quarantined() == 0 and hostile.name not in str(made.audit("trust"))


def test_two_sites_that_offer_are_too_few_and_what_they_have_is_not_published(make_bench: MakeBench) -> None:
    made = make_bench("quorum = 2\n", model=SHARED)
    for _ in range(3):
        for site in honest(-0.7, 0.6):
            site.send(made)
        made.send("c", codes=np.zeros(len(MASK), np.int8), spread=SILENT)
        made.step("abc")
    assert (made.federation.current.weights[MASK] == GRAPH.params[MASK]).all()
    details = made.store.releases.listed("f")[-1].details
    assert details["start_value_of_sites"] == 0
    assert details["start_value_stays"] == "too few offers: 2 of 3 needed, for 3 updates"
    assert "2 of 3 needed" in made.cli("release", "show", "f")


def test_privacy_at_the_aggregator_publishes_no_start_value_and_says_so(
    make_bench: MakeBench, caplog: pytest.LogCaptureFixture
) -> None:
    keys = "quorum = 2\n[federation.f.privacy]\nclip = 1.0\nnoise_multiplier = 2.0\nepsilon = 50.0\ndelta = 1e-3\n"
    made = make_bench(keys, model=SHARED)
    assert (play(made, honest(-0.7, 0.6, 0.1), 2) == GRAPH.params[MASK]).all()
    assert "privacy" in made.store.releases.listed("f")[-1].details["start_value_stays"]
    assert made.federation.status(0, ())["start_value_problem"].startswith("the card's local_start")
    assert 'local_start = "shared" has no effect with [federation.X.privacy]' in caplog.text


def test_offers_at_the_end_of_the_grid_are_no_reason_to_refuse_an_update(make_bench: MakeBench) -> None:
    made = make_bench("quorum = 2\nmax_saturated = 0.05\n", model=SHARED)
    codes = np.where(MASK, LIMIT, 5).astype(np.int8)
    assert np.mean(np.abs(codes) == LIMIT) > 0.05
    assert made.send("a", codes=codes)


def test_saturated_update_is_refused_where_most_of_the_model_stays_at_the_sites(make_bench: MakeBench) -> None:
    made = make_bench("quorum = 2\n", model=SHARED)
    assert np.mean(MASK) > 0.02  # so that all that is averaged is less than 98 % of the codes
    with pytest.raises(RefusedError, match=r"100\.0% of its averaged values"):
        made.send("a", codes=np.where(MASK, 0, LIMIT).astype(np.int8))


def play_behind(bench: FederationBench, rounds: int) -> np.ndarray:
    """The same in an asynchronous federation: each site answers a release that is older by 0, 1 or 2."""
    sites, published = honest(-0.7, 0.6, 0.1), [bench.federation.current]
    for _ in range(rounds):
        for behind, site in enumerate(sites):
            site.send(bench, published[max(0, len(published) - 1 - behind)])
        assert bench.step("abc") == len(published) + 1
        published.append(bench.federation.current)
    return bench.federation.current.weights[MASK]


ASYNCHRONOUS = 'mode = "asynchronous"\nquorum = 2\nbuffer = 3\n'


def test_offers_on_older_releases_count_in_an_asynchronous_federation(make_bench: MakeBench) -> None:
    made = make_bench(ASYNCHRONOUS, model=SHARED)
    np.testing.assert_allclose(play_behind(made, 20), 0.1, atol=0.02)
    assert made.store.releases.listed("f")[-1].details["start_value_of_sites"] == 3


def test_offers_on_releases_whose_weights_are_gone_are_left_out(make_bench: MakeBench) -> None:
    made = make_bench(ASYNCHRONOUS + "history = 0\n", model=SHARED)
    play_behind(made, 4)
    details = made.store.releases.listed("f")[-1].details
    assert details["start_value_stays"] == "too few offers: 1 of 3 needed, for 3 updates"


@pytest.mark.parametrize(
    ("keys", "rule", "updates", "needed"),
    [("", "fedavg", 2, 3), ("", "fedavg", 3, None), ("", "fedavg", 10, None), (", byzantine = 4", "bulyan", 19, None)],
)
def test_model_whose_start_value_no_round_can_move_gets_a_warning(
    make_bench: MakeBench, keys: str, rule: str, updates: int, needed: int | None
) -> None:
    made = make_bench(
        f'mode = "asynchronous"\nbuffer = {updates}\nquorum = {updates}\n', rule=f'{{ name = "{rule}"{keys} }}'
    )
    why = still_start(GRAPH, made.config.federation["f"], "f")
    assert (why is None) == (needed is None)
    assert why is None or f"a round of {updates} updates (federation.f.buffer) never has the {needed} offers" in why
    assert still_start(TrainableGraph.load(FILE), made.config.federation["f"], "f") is None
