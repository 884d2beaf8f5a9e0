# SPDX-License-Identifier: Apache-2.0
"""Samples that another card made are of the same size and mean something else: nothing is learnt from them."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import msgspec
import numpy as np
import pytest
from fedge_agent.config.schema import ModelConfig, Training
from fedge_agent.durable.releases import ChainStore
from fedge_agent.durable.spool import Spool
from fedge_agent.learning.local_model import LocalModel
from fedge_agent.samples.baseline import Plan
from fedge_agent.samples.machine_recipe import Own, machine_recipe
from fedge_agent.samples.sample_table import Sample
from fedge_agent.samples.store import SampleStore
from fedge_models.graph import zoo
from fedge_models.graph.bearing import Bearing
from fedge_models.graph.card import Card, Channel, Derived, WindowSpec
from fedge_models.graph.recipe import recipe, scale_recipe
from support.at_end import AtEnd

S = 10**9
BEARING = Bearing(8, 7.9, 33.5)
CARD = Card("anomaly", (Channel("a"), Channel("b")), WindowSpec(1, 8, 8), ("mean",), derive={"p": "a * b"})


class Gateway:
    """The model of a gateway, after each start with what was stored before."""

    def __init__(self, at_end: AtEnd, folder: Path) -> None:
        self.at_end, self.folder, self.time = at_end, folder, 0
        self.samples: SampleStore | None = None

    def start(self, card: Card, **own: Own) -> LocalModel:
        if self.samples is not None:
            self.samples.stop()
        self.samples = self.at_end(SampleStore(self.folder / "s", {"m": 5000}))
        config = ModelConfig(training=Training(min_samples=20))
        spool = self.at_end(Spool(self.folder / f"spool-{self.time}"))
        chain = ChainStore(self.folder / "chain")
        plans = {name: Plan(own=given) for name, given in own.items()}
        model = LocalModel("m", config, chain, self.samples, spool, lambda *_: None, lambda: None, plans)
        made = zoo.autoencoder(card, 3, (2,)) if card.task == "anomaly" else zoo.mlp(card, 2, (2,))
        model.adopt(made.SerializeToString())
        model.restore(None)
        return model

    def put(self, count: int, around: float, asset: str = "pump") -> None:
        assert self.samples is not None
        for _ in range(count):
            self.time += 8
            x = np.random.default_rng(self.time).normal(around, 1, 3).astype(np.float32)
            self.samples.put(Sample("m", asset, self.time * S, x, None, False, covers_ns=8 * S))
        self.samples.flush()


@pytest.fixture
def gateway(at_end: AtEnd, tmp_path: Path) -> Gateway:
    return Gateway(at_end, tmp_path)


def test_samples_of_another_card_count_for_nothing(gateway: Gateway) -> None:
    gateway.start(CARD)
    gateway.put(200, 5.0)
    assert gateway.start(CARD).samples_before == 0
    assert gateway.samples is not None and len(gateway.samples.rows("m", (3,), None).x) == 200
    other = gateway.start(msgspec.structs.replace(CARD, derive={"p": "a / b"}))
    assert other.samples_before == 200 and gateway.samples.all_collected("m") == 0
    gateway.samples.estimate_cover("m", "pump", 8 * S)
    assert gateway.samples.covered_ns("m", "pump") == 0
    gateway.put(30, 900.0)
    assert gateway.samples.collected("m", "pump") == (30, 30 * 8 * S)
    x = gateway.samples.rows("m", (3,), None).x
    assert len(x) == 30 and x.min() > 800
    assert len(gateway.samples.history("m", (3,), 0, 1000)) == 30
    assert gateway.samples.covered_ns("m", "pump") == 30 * 8 * S
    assert gateway.start(msgspec.structs.replace(CARD, derive={"p": "a / b"})).samples_before == 200
    assert len(gateway.samples.rows("m", (3,), None).x) == 30
    assert gateway.samples.collected("m", "pump") == (30, 30 * 8 * S)


def test_the_standardisation_is_fitted_again_for_another_card(gateway: Gateway) -> None:
    model = gateway.start(CARD)
    gateway.put(200, 5.0)
    model.rescale()
    again = gateway.start(CARD)
    assert again.can_train
    other = gateway.start(msgspec.structs.replace(CARD, derive={"p": "a - b"}))
    assert not other.can_train
    gateway.put(200, 900.0)
    other.rescale()
    assert other.can_train and other._adopted is not None and other._adopted.standardisation.scale is not None
    assert other._adopted.standardisation.scale.mean.min() > 800


def test_a_model_that_comes_from_an_aggregator_begins_anew_too(gateway: Gateway) -> None:
    model = gateway.start(CARD)
    gateway.put(200, 5.0)
    model.rescale()
    assert model.can_train and model.total == 200
    fetched = zoo.autoencoder(msgspec.structs.replace(CARD, derive={"p": "a - b"}), 3, (2,)).SerializeToString()
    assert model.would_begin_anew(fetched)
    same = zoo.autoencoder(msgspec.structs.replace(CARD, description="same"), 3, (2,))
    assert not model.would_begin_anew(same.SerializeToString())
    model.adopt(fetched)
    assert model.samples_before == 200 and model.total == 0 and not model.can_train
    gateway.put(30, 900.0)
    model.rescale()
    assert model._adopted is not None and model._adopted.standardisation.scale is not None
    assert model._adopted.standardisation.scale.mean.min() > 800


def test_samples_of_a_version_that_stored_no_recipe_are_used_and_counted(
    gateway: Gateway, caplog: pytest.LogCaptureFixture
) -> None:
    gateway.start(CARD)
    gateway.put(200, 5.0)
    assert gateway.samples is not None
    with gateway.samples.tables.transaction() as db:
        db.execute("DELETE FROM sample_recipes")
    caplog.clear()
    assert gateway.start(msgspec.structs.replace(CARD, derive={"p": "a - b"})).samples_before == 0
    assert len(gateway.samples.rows("m", (3,), None).x) == 200
    assert "did not note how they were made: 200. They are used" in caplog.text
    caplog.clear()
    assert gateway.start(CARD).samples_before == 200
    assert "did not note" not in caplog.text


def test_no_sample_of_a_new_database_was_left_out_before(gateway: Gateway) -> None:
    """Its numbers begin again, below those of the database that was set aside."""
    gateway.start(CARD)
    gateway.put(200, 5.0)
    model = gateway.start(msgspec.structs.replace(CARD, derive={"p": "a - b"}))
    samples = gateway.samples
    assert samples is not None and model.total == 0
    with samples.tables.transaction() as db:
        for table in ("samples", "sample_recipes", "sqlite_sequence"):
            db.execute(f"DELETE FROM {table}")
    samples._begun = None  # as on another connection
    gateway.put(30, 5.0)
    assert samples.all_collected("m") == 30
    model.adopt(zoo.autoencoder(CARD, 3, (2,)).SerializeToString())
    assert model.samples_before == 30 and samples.all_collected("m") == 0


def test_the_recipe_is_what_makes_a_sample() -> None:
    same = msgspec.structs.replace(
        CARD, description="other", threshold_quantile=0.9, trainable="x", window=WindowSpec(1, 8, 4)
    )
    assert recipe(same) == recipe(CARD)
    others = [
        msgspec.structs.replace(CARD, derive={"p": "b * a"}),
        msgspec.structs.replace(CARD, derive={"q": "a * b"}),
        msgspec.structs.replace(CARD, features=("max",)),
        msgspec.structs.replace(CARD, window=WindowSpec(2, 8, 8)),
        msgspec.structs.replace(CARD, channels=(Channel("b"), Channel("a"))),
        msgspec.structs.replace(CARD, derive={"p": Derived("a * b", input=False), "q": "p"}),
        msgspec.structs.replace(CARD, bearing=BEARING),
        msgspec.structs.replace(CARD, channels=(Channel("a", centre=0.0, scale=2.0), Channel("b"))),
        msgspec.structs.replace(CARD, derive={"p": Derived("a * b", centre=0.0, scale=2.0)}),
    ]
    assert len({recipe(card) for card in [CARD, *others]}) == 10


def test_what_a_site_standardises_by_changes_the_standardisation_and_no_sample() -> None:
    raw = msgspec.structs.replace(CARD, scaling="file")
    by_condition = msgspec.structs.replace(CARD, channels=(Channel("a", condition=1.0), Channel("b")))
    assert recipe(raw) == recipe(by_condition) == recipe(CARD)
    assert len({scale_recipe(card) for card in (CARD, raw, by_condition)}) == 3
    assert scale_recipe(CARD, [b"", b"x", b"y"]) == scale_recipe(CARD, [b"y", b"x"]) != scale_recipe(CARD)


def test_a_scale_that_the_card_changes_is_made_again_for_the_same_samples(gateway: Gateway) -> None:
    model = gateway.start(CARD)
    gateway.put(200, 5.0)
    model.rescale()
    assert model._adopted is not None and model._adopted.standardisation.scale is not None
    assert not model._adopted.standardisation.scale.raw
    other = gateway.start(msgspec.structs.replace(CARD, scaling="file"))
    assert other.samples_before == 0
    other.rescale()
    assert other._adopted is not None and other._adopted.standardisation.scale is not None
    assert other._adopted.standardisation.scale.raw


def test_a_machine_with_another_window_than_before_begins_anew_and_others_do_not(gateway: Gateway) -> None:
    gateway.start(CARD, pump=Own(), fan=Own())
    gateway.put(100, 5.0)
    gateway.put(40, 5.0, "fan")
    assert gateway.samples is not None
    same = gateway.start(CARD, pump=Own(1.0, 8), fan=Own())
    assert same.samples_before == 0
    other = gateway.start(CARD, pump=Own(length=16), fan=Own())
    assert other.samples_before == 100 and other.total == 40 and gateway.samples.collected("m", "pump") == (0, 0)
    assert gateway.samples.collected("m", "fan") == (40, 40 * 8 * S)
    gateway.put(30, 900.0)
    assert Counter(gateway.samples.rows("m", (3,), None).assets.tolist()) == {"fan": 40, "pump": 30}
    assert len(gateway.samples.history("m", (3,), 0, 1000)) == 70
    again = gateway.start(CARD, pump=Own(length=16), fan=Own())
    assert again.samples_before == 100 and gateway.samples.collected("m", "pump") == (30, 30 * 8 * S)
    assert gateway.start(CARD, pump=Own(), fan=Own()).samples_before == 130


def test_the_recipe_of_a_machine_is_what_its_configuration_changes() -> None:
    at = msgspec.structs.replace(CARD, bearing=BEARING)
    other = msgspec.structs.replace(BEARING, elements=9)
    given = [Own(), Own(length=16), Own(rate_hz=2.0), Own(bearing=other), Own(shaft_rpm=True)]
    assert len({machine_recipe(at, own) for own in given}) == 5 and machine_recipe(at, Own()) == b""
    assert machine_recipe(at, Own(1.0, 8, BEARING)) == b""
    raw = msgspec.structs.replace(at, features=())
    assert machine_recipe(raw, Own(bearing=other, shaft_rpm=True)) == b""


def test_labels_of_stored_samples_follow_their_names_into_another_file(gateway: Gateway) -> None:
    def classifier(*labels: str) -> Card:
        return Card("classify", (Channel("a"), Channel("b")), WindowSpec(1, 8, 8), ("mean",), labels, labels[0])

    def learnt(model: LocalModel) -> list[int]:
        data = [model.usable(held) for held in (False, True)]
        return sorted(int(y) for part in data for y in part.y)

    gateway.start(classifier("good", "worn", "dry"))
    assert gateway.samples is not None
    for i in range(90):
        x = np.random.default_rng(i).normal(0, 1, 2).astype(np.float32)
        gateway.samples.put(Sample("m", "pump", i * 8 * S, x, 2 if i < 10 else i % 2, i % 5 == 0))
    gateway.samples.flush()
    turned = gateway.start(classifier("dry", "good", "worn"))
    turned.rescale()
    assert Counter(learnt(turned)) == {0: 10, 1: 40, 2: 40} and turned.without_label == 0
    fewer = gateway.start(classifier("worn", "good"))
    fewer.rescale()
    assert Counter(learnt(fewer)) == {0: 40, 1: 40} and fewer.without_label == 10
    assert fewer.would_begin_anew(zoo.mlp(classifier("good", "worn"), 2, (2,)).SerializeToString())
