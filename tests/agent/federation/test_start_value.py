# SPDX-License-Identifier: Apache-2.0
"""Gateways whose own layers are opposite train over the network; a line that joins then begins in their middle."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest
from fedge_agent.config.schema import ModelConfig, Training
from fedge_agent.durable.spool import Spool
from fedge_agent.federation.participant import Participant
from fedge_agent.federation.uplink import Uplink
from fedge_agent.learning.carry_over import decode
from fedge_agent.samples.sample_table import Sample
from fedge_agent.samples.store import SampleStore
from fedge_models.graph import zoo
from fedge_models.graph.card import Card, Channel, WindowSpec
from fedge_models.graph.trainable import TrainableGraph
from fedge_models.messages.quantize import Floats
from fedge_models.privacy.budget import SitePrivacy
from fedge_models.system.settings import Positive, Seconds
from fedge_models.training.personal import local_mask
from support.running_aggregator import RunningAggregator
from support.waiting import until

CARD = Card(
    "classify", (Channel("a"), Channel("b")), WindowSpec(1, 4, 2), ("mean",), ("ok", "bad"), "ok",
    local="dense1.*", local_start="shared",
)  # fmt: skip
MODEL = zoo.mlp(CARD, 2, (8,)).SerializeToString()
GRAPH = TrainableGraph.load(MODEL)
MASK = local_mask(GRAPH)
ROUNDS = 6
RULE = 'quorum = 6\nrule = { name = "trimmed_mean", byzantine = 1 }'  # of which three offers are enough
PRIVACY = SitePrivacy(clip=0.5, noise_multiplier=2.0, epsilon=100.0, delta=1e-5)


class Gateway:
    """A gateway of the federation `pumps` with samples; sign: which side of a line is bad here, 0: no labels.

    only: the only class it ever meets.
    """

    def __init__(
        self, plant: RunningAggregator, opened: ExitStack, name: str, sign: float, *,
        privacy: SitePrivacy | None = None, only: int | None = None, offers: bool = True,
    ) -> None:  # fmt: skip
        who, folder = plant.enrol(name), plant.folder / name
        self.spool, samples = Spool(folder / "s"), SampleStore(folder / "samples", {"pumps": 1000})
        rows = np.random.default_rng(list(name.encode())).normal(size=(120, 2)).astype(np.float32)
        for i, row in enumerate(rows):
            label = int(sign * row[0] > 0) if only is None else only
            samples.put(Sample("pumps", "pump", i, row, label if sign else None, i % 5 == 0))
        samples.start()
        samples.stop()
        samples = SampleStore(folder / "samples", {"pumps": 1000})
        how = ModelConfig(
            training=Training(min_samples=40, interval=Seconds(0), learning_rate=0.02, own_model=0.0),
            privacy=privacy,
            offer_start=offers,
            poll=Positive(0),
        )
        link = Uplink(who)
        self.part = Participant(
            "pumps", how, folder / "models", samples, self.spool, who, link, lambda *_: None, lambda _: False
        )
        for close in (self.spool.close, samples.stop, link.close):
            opened.callback(close)
        self.part.restore()

    def own(self) -> Floats:
        """Its own tensors."""
        assert self.part.graph is not None
        found = decode(self.spool.residual("pumps", self.part.model.digest), self.part.graph, MASK).own
        assert found is not None
        return found

    def release(self) -> Floats:
        """The weights of the newest release that it holds."""
        found = self.part.model.stored_release()
        assert found is not None
        return found.weights


def ends(gateway: Gateway) -> tuple[str, str]:
    """What a gateway decides far to the left and far to the right."""
    serving = gateway.part.serving
    assert serving is not None
    left, right = (serving.decide(np.array([a, 0], np.float32)).label for a in (-2, 2))
    return left, right


@pytest.fixture
def opened() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def test_line_that_joins_begins_with_the_median_of_lines_whose_own_tensors_are_opposite(
    opened: ExitStack, tmp_path: Path
) -> None:
    plant = RunningAggregator(tmp_path, model=MODEL, pumps=RULE)
    opened.callback(plant.stop)
    federation = plant.app.federation("pumps")
    assert federation is not None
    gateways = [Gateway(plant, opened, name, sign) for name, sign in (("a", 1), ("b", -1), ("c", 1))]
    private = Gateway(plant, opened, "d", -1, privacy=PRIVACY)
    narrow = Gateway(plant, opened, "e", 1, only=1)
    silent = Gateway(plant, opened, "f", -1, offers=False)

    def one_round(before: int) -> bool:
        for gateway in (*gateways, private, narrow, silent):
            gateway.part.step()
        return federation.current.header.version > before

    for _ in range(ROUNDS):
        before = federation.current.header.version
        until(lambda version=before: one_round(version), federation.round)  # type: ignore[misc]  # called at once
    details = plant.app.store.releases.listed("pumps")[-1].details
    assert details["start_value_of_sites"] == 3 and len(details["nodes"]) == 6
    assert federation.quarantined() == federation.doubted() == 0
    assert [g.part.status()["start_value"] for g in (private, narrow, silent)] == [
        "private", "incomplete", "not allowed",
    ]  # fmt: skip
    assert {g.part.status()["start_value"] for g in gateways} == {"offered"}
    own = np.stack([gateway.own() for gateway in gateways])
    assert np.abs(own[0] - own[1]).max() > 0.3  # they disagree, on purpose

    joining = Gateway(plant, opened, "new", 0)
    joining.part.step()
    far, before = (np.abs(w[MASK] - np.median(own, axis=0)).mean() for w in (joining.release(), GRAPH.params))
    assert far < before / 3, (far, before)  # it is what they had a round before
    assert joining.part.serving is not None and joining.part.serving.release == federation.current.header.version
    assert ends(joining) == ("ok", "bad")  # as two of the three lines say
    for gateway in gateways:
        gateway.part.step()  # what the newest release holds for others is not theirs
    assert [ends(gateway) for gateway in gateways] == [("ok", "bad"), ("bad", "ok"), ("ok", "bad")]
    late = Gateway(plant, opened, "late", 0)
    late.part.model.adopt(MODEL)
    assert late.part.status()["start_value"] == "untrained"  # nothing is offered before a training
