# SPDX-License-Identifier: Apache-2.0
"""A participant's own tensors, values as labels, several targets, and updates that are refused; without a network."""

from __future__ import annotations

import hashlib
from pathlib import Path

import msgspec
import numpy as np
import pytest
from fedge_agent.config.schema import AssetConfig, ModelConfig, TagConfig, Training
from fedge_agent.durable.releases import ChainStore
from fedge_agent.durable.spool import Spool
from fedge_agent.federation.participant import REFUSED, Participant
from fedge_agent.federation.refused import MANY
from fedge_agent.health import Latency
from fedge_agent.learning.carry_over import CarryOver
from fedge_agent.machines.asset import Asset
from fedge_agent.samples.sample_table import Sample
from fedge_agent.samples.store import SampleStore
from fedge_agent.types import AlertState, Batch, Quality, Reading
from fedge_models.errors import ReplayError, StorageError, UnreachableError, WireError
from fedge_models.graph import zoo
from fedge_models.graph.card import Card, Channel, Target, WindowSpec
from fedge_models.graph.trainable import TrainableGraph
from fedge_models.graph.untrained import mark_untrained
from fedge_models.messages.release import Release, encode_full, header_hash, weights_hash
from fedge_models.messages.update import Update, decode_update
from fedge_models.privacy.budget import SitePrivacy
from fedge_models.system.settings import Seconds
from fedge_models.training import personal, standardise
from fedge_models.training.evaluation import evaluate
from support.at_end import AtEnd
from support.made_releases import make_release
from support.offline_site import KEY, OfflineSite
from support.waiting import until

CARD = Card(
    "regress",
    (Channel("a"),),
    WindowSpec(1, 4, 2),
    ("mean", "std"),
    targets=(Target("life", "cycles", low=0, high=100, alarm_below=20),),
    local="dense0.bias",
)


def test_a_site_decides_with_its_own_tensors_after_a_restart(at_end: AtEnd, tmp_path: Path) -> None:
    model = zoo.mlp(CARD, 2, ()).SerializeToString()
    graph, digest = TrainableGraph.load(model), hashlib.sha256(model).digest()
    weights = np.zeros_like(graph.params)
    chain, spool = ChainStore(tmp_path / "models"), at_end(Spool(tmp_path / "spool.sqlite"))
    chain.save_graph(model)
    chain.save("head", make_release(weights, np.full(2, 0.1, np.float32), 3, digest))
    samples = at_end(SampleStore(tmp_path / "samples.sqlite", {"m": 1000}))
    for i, row in enumerate(np.random.default_rng(0).normal(size=(80, 2)).astype(np.float32)):
        samples.put(Sample("m", "pump", i, row, 50.5 if i else None, False))
    samples.start()
    samples.stop()
    samples = at_end(SampleStore(tmp_path / "samples.sqlite", {"m": 1000}))
    chain.save_scale((2,), standardise.fit(samples.rows("m", (2,), None).x, CARD), 80)

    def life() -> float:
        made = Participant(
            "m", ModelConfig(training=Training(min_samples=10)), tmp_path / "models", samples, spool, None, None,
            lambda *_: None, lambda _: False,
        )  # fmt: skip
        made.restore()
        assert made.serving is not None and made.serving.release == 3
        assert len(made.model.usable(held=False).x) == 79  # values are labels; the one without is left out
        return made.serving.decide(np.zeros(2, np.float32)).values["life"]

    assert life() == 50  # the release's own bias: the middle of the range
    mask = personal.local_mask(graph)
    own = CarryOver(np.zeros_like(weights), np.full(int(mask.sum()), -0.5, np.float32), weights, weights, 3)
    spool.put_update("m", 3, 1, b"body", digest, own.encode())
    assert life() == 25
    spool.close()


def test_a_model_that_can_never_come_is_a_problem(at_end: AtEnd, tmp_path: Path) -> None:
    samples = at_end(SampleStore(tmp_path / "samples.sqlite", {"m": 1000}))
    spool = at_end(Spool(tmp_path / "spool.sqlite"))
    made = Participant(
        "m", ModelConfig(), tmp_path / "models", samples, spool, None, None, lambda *_: None, lambda _: False
    )
    made.restore()
    made.step()
    problem = made.status()["problem"]
    assert problem.startswith("no model can come: [model.m] has no file, and there is no aggregator")


def test_a_machine_teaches_a_model_with_two_targets(at_end: AtEnd, tmp_path: Path) -> None:
    targets = (Target("life", "cycles", low=0, high=100), Target("heat", "degC", centre=50, scale=20))
    card = Card("regress", (Channel("a"),), WindowSpec(1, 4, 2), ("mean",), targets=targets)
    (tmp_path / "m.onnx").write_bytes(mark_untrained(zoo.mlp(card, 1, (8,))).SerializeToString())
    samples, spool = (
        at_end(SampleStore(tmp_path / "samples.sqlite", {"m": 1000})),
        at_end(Spool(tmp_path / "spool.sqlite")),
    )
    training = Training(min_samples=10, own_model=1.0, epochs=20, learning_rate=0.01)
    part = Participant(
        "m", ModelConfig(file=tmp_path / "m.onnx", training=training), tmp_path / "models", samples, spool, None, None,
        lambda *_: None, lambda _: False,
    )  # fmt: skip
    part.restore()
    tags = {n: TagConfig(source="plc", tag=n) for n in ("a", "life", "heat")}
    config = AssetConfig(model="m", channels={"a": tags["a"]}, targets={n: tags[n] for n in ("heat", "life")})
    asset = Asset("gw", "cell", config, part, samples, Latency(), AlertState(), lambda *_: None)
    for t, a in enumerate(np.sin(np.arange(2400) / 50)):
        known = (("life", 50 + 20 * a), ("heat", 50 - 10 * a)) if t > 100 else (("life", 1.0),)
        readings = [Reading(n, t * 10**9, float(v), Quality.GOOD) for n, v in (("a", a), *known)]
        asset.push(Batch("plc", tuple(readings), None, 0))
    samples.flush()
    part.step()
    data, held = part.model.usable(held=False), part.model.usable(held=True)
    own = part.model._model.own.weights
    assert part.graph is not None and own is not None and data.y.shape == (len(data.x), 2) and len(data.x) > 500
    part.graph.set_params(own)
    found = evaluate(part.graph, held.x, held.y)
    assert found["rmse_life"] < 3 and found["rmse_heat"] < 2, found
    assert part.serving is not None and part.status()["own_share"] > 0.9
    decision, truth = part.serving.decide(np.array([0.5], np.float32)), {"life": 60.0, "heat": 45.0}
    assert decision.bounds.keys() == truth.keys()
    assert all(low - 3 < truth[n] < high + 3 and high - low < 12 for n, (low, high) in decision.bounds.items()), (
        decision
    )
    past = part.serving.past["cell"]
    assert 500 < len(past) <= 1000 and past == sorted(past, key=lambda p: p[0])
    assert np.ptp([v["life"] for _, v in past]) > 30
    samples.stop()
    spool.close()


def test_a_release_is_tuned_to_the_machines_here_and_that_survives_a_restart(at_end: AtEnd, tmp_path: Path) -> None:
    model = zoo.mlp(CARD, 2, (8,)).SerializeToString()
    graph, digest = TrainableGraph.load(model), hashlib.sha256(model).digest()
    chain, spool = ChainStore(tmp_path / "models"), at_end(Spool(tmp_path / "spool.sqlite"))
    chain.save_graph(model)
    chain.save("head", make_release(graph.params.copy(), np.full(4, 0.1, np.float32), 3, digest))
    samples = at_end(SampleStore(tmp_path / "samples.sqlite", {"m": 1000}))
    for i, row in enumerate(np.random.default_rng(0).normal(size=(200, 2)).astype(np.float32)):
        samples.put(Sample("m", "pump", i, row, float(50 + 10 * row[0]), i % 5 == 0))
    samples.start()
    samples.stop()

    def serves(look: bool) -> tuple[bool, float]:
        stored = at_end(SampleStore(tmp_path / "samples.sqlite", {"m": 1000}))
        stored.start()
        training = Training(min_samples=10, learning_rate=0.05)
        made = Participant(
            "m", ModelConfig(training=training), tmp_path / "models", stored, spool, None, None, lambda *_: None,
            lambda _: False,
        )  # fmt: skip
        made.restore()
        if look:
            made.model.rescale()
        assert made.serving is not None and made.serving.release == 3
        found = made.status()["fine_tuned"], made.serving.decide(np.ones(2, np.float32)).values["life"]
        stored.stop()
        return found

    first = serves(look=True)
    assert first[0] and serves(look=False) == first
    (tmp_path / "models" / "tuned.bin").write_bytes(b"of another release")
    tuned, life = serves(look=False)
    assert not tuned and life != first[1]
    spool.close()


class Refusing:
    """An aggregator that takes no update."""

    def __init__(self, site: OfflineSite) -> None:
        self.site, self.got = site, list[Update]()

    def keep_certificate(self, now: float) -> None:
        """There is none."""

    def submit(self, federation: str, body: bytes) -> None:
        self.got.append(decode_update(body, KEY.public_key(), self.site.graph.sizes))
        raise WireError("did training diverge? Lower its learning rate")

    def fetch_release(self, federation: str, have: int, cap: int, idle: object = None, serves: object = None) -> None:
        """None is newer."""

    def asked(self, federation: str) -> bool:
        return True


def test_a_refused_update_is_made_again_on_the_same_release_and_carries_nothing_over(
    at_end: AtEnd, tmp_path: Path
) -> None:
    """Where each site waits for the release that follows, there would be none."""
    site = at_end(OfflineSite(tmp_path))
    training = Training(min_samples=40, interval=Seconds(0), learning_rate=10.0)
    aggregator = Refusing(site)
    made = site.participant(training=training, uplink=aggregator)
    for count in range(1, 4):
        made.step()  # hands over the one before, and trains
        assert len(aggregator.got) == count - 1
    assert {u.base_version for u in aggregator.got} == {3} and len({u.sequence for u in aggregator.got}) == 2
    wide = [float(u.spread.max()) for u in aggregator.got]
    assert 0.3 < wide[1] / wide[0] < 1.7  # not the difference of a training and its residual besides


def test_a_refused_update_is_not_made_again_before_the_interval_nor_with_privacy(at_end: AtEnd, tmp_path: Path) -> None:
    site = at_end(OfflineSite(tmp_path))
    paid = SitePrivacy(clip=1.0, noise_multiplier=5.0, epsilon=8.0, delta=1e-5)
    for privacy, interval in ((None, 3600), (paid, 0)):
        site.release(site.head.header.version + 1)
        aggregator = Refusing(site)
        made = site.participant(privacy, Training(min_samples=40, interval=Seconds(interval)), aggregator)
        for _ in range(3):
            made.step()
        assert len(aggregator.got) == 1


def test_a_restart_tries_again_what_was_refused_and_nothing_else(at_end: AtEnd, tmp_path: Path) -> None:
    """The operator lowers the learning rate, as the refusal says, and starts the agent again."""
    site = at_end(OfflineSite(tmp_path))
    site.participant().step()
    first = site.update().sequence
    site.participant().step()
    assert site.update().sequence == first  # it waits
    site.spool.finish_update("m", first, "accepted")
    site.participant().step()
    pending = site.spool.update("m")
    assert pending is not None and pending.body is None
    site.spool.finish_update("m", first, REFUSED + "did training diverge?")
    paid = SitePrivacy(clip=1.0, noise_multiplier=5.0, epsilon=8.0, delta=1e-5)
    site.participant(paid).step()
    assert site.spool.update("m") == pending._replace(outcome=REFUSED + "did training diverge?")  # each try is paid for
    site.participant().step()
    assert site.update().sequence > first


def test_training_that_diverged_is_tried_again_on_the_same_release(at_end: AtEnd, tmp_path: Path) -> None:
    site = at_end(OfflineSite(tmp_path))
    wild = Training(min_samples=40, interval=Seconds(0), learning_rate=1e30, optimizer="sgd")
    made = site.participant(training=wild)
    made.step()
    made.step()
    assert [t["diverged"] for t in made.trainings] == [True, True] and site.spool.update("m") is None
    assert made.problem is not None and "nothing is sent" in made.problem


class Publishing:
    """An aggregator with one release, which asks nobody to train."""

    def __init__(self, head: Release) -> None:
        self._version, self._body = head.header.version, encode_full(head.header, head.weights, KEY)

    def keep_certificate(self, now: float) -> None:
        """It lasts."""

    def fetch_release(
        self, federation: str, have: int, cap: int, idle: object = None, serves: object = None
    ) -> bytes | None:
        return self._body if have < self._version else None

    def asked(self, federation: str) -> bool:
        return False


@pytest.mark.parametrize("worse", [False, True])
def test_a_release_that_is_clearly_worse_here_never_serves(at_end: AtEnd, tmp_path: Path, worse: bool) -> None:
    site = at_end(OfflineSite(tmp_path, samples=400))
    old, weights = site.head.header, site.head.weights.copy()
    weights[-2:] += (4, -4) if worse else (0.1, 0)  # says one class of everything
    new = msgspec.structs.replace(old, version=4, previous=site.head.hash, weights=weights_hash(weights), expires=2**40)
    made = site.participant(uplink=Publishing(Release(new, header_hash(new), weights)))
    made.start()
    until(lambda: made.refused.total or made.status()["release"] == 4, made.status)
    made.stop()
    assert made.serving is not None
    assert made.serving.release == (3 if worse else 4)
    status = made.status()
    assert list(status["refused_releases"]) == (["4"] if worse else [])
    assert status["refused"]["in_a_row"] == worse
    if worse:
        assert "of release 3, which remains in service" in status["refused"]["text"]


class Bad:
    """An aggregator whose releases say one class of everything, unless `good`; it notes what serves here."""

    def __init__(self, head: Release) -> None:
        self.head, self.last, self.good, self.said = head, head.hash, False, list[int | None]()

    def keep_certificate(self, now: float) -> None:
        """It lasts."""

    def fetch_release(
        self, federation: str, have: int, cap: int, idle: object = None, serves: int | None = None
    ) -> bytes | None:
        self.said.append(serves)
        weights = self.head.weights.copy()
        weights[-2:] += (0.1, 0) if self.good else (4, -4)
        header = msgspec.structs.replace(
            self.head.header, version=have + 1, previous=self.last, weights=weights_hash(weights), expires=2**40
        )
        self.last = header_hash(header)
        return encode_full(header, weights, KEY)

    def asked(self, federation: str) -> bool:
        return False


@pytest.mark.parametrize("with_privacy", [False, True])
def test_refusals_in_a_row_become_a_problem_and_the_aggregator_hears_what_serves(
    at_end: AtEnd, tmp_path: Path, with_privacy: bool
) -> None:
    site = at_end(OfflineSite(tmp_path, samples=400))
    privacy = SitePrivacy(clip=1.0, noise_multiplier=5.0, epsilon=8.0, delta=1e-5) if with_privacy else None
    aggregator = Bad(site.head)
    made = site.participant(privacy, uplink=aggregator)
    made.restore()
    for count in range(1, MANY + 1):
        made._next_poll = 0.0
        made.step()
        status = made.status()
        assert status["release"] == 3 and status["head"] == 3 + count and status["refused"]["in_a_row"] == count
        assert status["refused"]["text"].startswith(f"refused release {3 + count}: held-back loss ")
        assert f"{count} in a row" in status["refused"]["text"]
        assert status["problem"] == (status["refused"]["text"] if count == MANY else None)
    assert aggregator.said == ([None] * MANY if with_privacy else [None] + [3] * (MANY - 1))
    aggregator.good, made._next_poll = True, 0.0
    made.step()
    status = made.status()
    assert status["release"] == status["head"] == 4 + MANY and status["problem"] is None
    assert status["refused"]["text"] == f"{MANY} releases refused since the start, the last {3 + MANY}"


def test_a_refused_release_is_shown_after_a_restart_too(at_end: AtEnd, tmp_path: Path) -> None:
    site = at_end(OfflineSite(tmp_path, samples=400))
    aggregator = Bad(site.head)
    made = site.participant(uplink=aggregator)
    made.restore()
    for good in (True, False):
        aggregator.good, made._next_poll = good, 0.0
        made.step()
    again = site.participant(uplink=aggregator)
    again.restore()
    status = again.status()
    assert status["release"] == 4
    assert status["refused"]["text"].startswith("release 5 does not serve: it was refused, or not tried, before")


class Ahead(Refusing):
    """An aggregator that has seen a number far above this gateway's, as after a restore with a wrong clock."""

    last = 2**51

    def submit(self, federation: str, body: bytes) -> None:
        made = decode_update(body, KEY.public_key(), self.site.graph.sizes)
        self.got.append(made)
        if made.sequence <= self.last:
            raise ReplayError(f"sequence {made.sequence} is not above its last, {self.last}", self.last)


@pytest.mark.parametrize("with_privacy", [False, True])
def test_an_update_whose_number_was_used_is_sent_again_above_it(
    at_end: AtEnd, tmp_path: Path, with_privacy: bool
) -> None:
    site = at_end(OfflineSite(tmp_path))
    privacy = SitePrivacy(clip=1.0, noise_multiplier=5.0, epsilon=8.0, delta=1e-5) if with_privacy else None
    aggregator = Ahead(site)
    made = site.participant(privacy, Training(min_samples=40), aggregator)
    made.step()
    spent = site.spool.privacy_spent("m")
    made.step()
    first, second = aggregator.got
    assert second.sequence == Ahead.last + 1 > first.sequence
    assert (second.codes == first.codes).all() and second.base_version == first.base_version
    pending = site.spool.update("m")
    assert pending is not None and (pending.body, pending.outcome, pending.sequence) == (
        None,
        "accepted",
        Ahead.last + 1,
    )
    after = site.spool.privacy_spent("m")
    assert (after.rho, after.updates) == (spent.rho, spent.updates)  # the same update is paid for once
    if with_privacy:
        assert after.sequence == pending.sequence


def test_a_full_disk_is_not_an_aggregator_that_cannot_be_reached(
    at_end: AtEnd, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = at_end(OfflineSite(tmp_path))
    made = site.participant(training=Training(min_samples=40), uplink=Refusing(site))
    made.step()
    assert made.status()["reachable"]

    def fail(*values: object) -> None:
        raise error

    for error, reachable in ((StorageError("disk full"), True), (UnreachableError("no answer"), False)):
        monkeypatch.setattr(made, "step", fail)
        made._attempt(made.step)
        assert made.status()["reachable"] is reachable and str(error) in str(made.status()["problem"])


def test_without_an_aggregator_a_problem_ends_with_the_next_step_that_succeeds(
    at_end: AtEnd, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = at_end(OfflineSite(tmp_path))
    made = site.participant(training=Training(min_samples=40))
    assert made.serving is not None

    def fail() -> None:
        raise StorageError("disk full")

    with monkeypatch.context() as broken:
        broken.setattr(made.model, "rescale", fail)
        made._attempt(made.step)
        assert made.status()["problem"] == "disk full"
    made._attempt(made.step)
    assert made.status()["problem"] is None
