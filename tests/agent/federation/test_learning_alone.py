# SPDX-License-Identifier: Apache-2.0
"""A gateway without an aggregator learns alone, from the file's weights.

A trained file gives way only where held-back units show something better.
"""

from __future__ import annotations

from pathlib import Path

import cbor2
import msgspec
import numpy as np
import pytest
from fedge_agent.cli.status_lines import _model
from fedge_agent.config.schema import ModelConfig, Training
from fedge_agent.durable.releases import ChainStore
from fedge_agent.federation.participant import Participant
from fedge_agent.learning import local_model
from fedge_agent.samples.baseline import Plan
from fedge_agent.samples.sample_table import Sample
from fedge_models.errors import UnreachableError
from fedge_models.graph import zoo
from fedge_models.graph.card import Card, Channel, WindowSpec
from fedge_models.graph.intake import with_weights
from fedge_models.system.settings import Seconds
from fedge_models.training.loop import fit
from support.at_end import AtEnd
from support.lonely_site import LonelySite, right

LEARNS = Training(
    min_samples=40, interval=Seconds(0), new_samples=100, own_model=1.0, learning_rate=0.02, epochs=10, fine_tune=0
)


def _site(at_end: AtEnd, folder: Path, untrained: bool = True) -> LonelySite:
    return at_end(LonelySite(folder, untrained))


def _text(made: object) -> str:
    return _model(made.status()).text  # type: ignore[attr-defined]


def test_an_untrained_starter_is_trained_as_soon_as_there_are_enough_samples(at_end: AtEnd, tmp_path: Path) -> None:
    site = _site(at_end, tmp_path)
    made = site.participant(LEARNS)
    site.operate(40)  # a fifth is held back
    made.step()
    assert made.status()["learns"] == "alone" and not made.status()["own"]["trained"]
    assert "its file, samples " in _text(made) and "learns alone: its own model is not trained yet" in _text(made)
    assert " of 40 samples that it may learn from" in _text(made)
    site.operate(50)
    made.step()
    entry = made.status()
    assert entry["own"] == {"trained": True, "trainings": 1, "undone": 0, "guarded": False}
    assert entry["own_share"] > 0.5 and right(made) > 0.8
    assert "this site's own model" in _text(made) and "learns alone" in _text(made) and "not ready" not in _text(made)
    assert site.spool.update("m") is None and not entry["trainings"]


def test_it_is_trained_again_for_new_samples_and_not_for_a_restart(at_end: AtEnd, tmp_path: Path) -> None:
    site = _site(at_end, tmp_path)
    site.operate(200)
    first = site.participant(LEARNS)
    first.step()
    first.step()
    assert first.status()["own"]["trainings"] == 1
    again = site.participant(LEARNS)
    assert again.status()["own"]["trained"] and np.array_equal(site.decided(again), site.decided(first))
    assert again.status()["own_share"] == pytest.approx(first.status()["own_share"], abs=1e-6)
    again.step()
    assert again.status()["own"]["trainings"] == 0
    site.operate(99)
    again.step()
    assert again.status()["own"]["trainings"] == 0
    site.operate(1)
    again.step()
    assert again.status()["own"]["trainings"] == 1


def test_a_gateway_that_is_switched_off_daily_is_trained_again(at_end: AtEnd, tmp_path: Path) -> None:
    site = _site(at_end, tmp_path)
    site.operate(200)
    site.participant(LEARNS).step()
    for _ in range(2):
        site.operate(90)
        day = site.participant(LEARNS)  # nobody stopped the one before: as after kill -9
        day.step()
        assert day.status()["own"]["trainings"] == 0
        site.operate(10)
        day.step()
        assert day.status()["own"]["trainings"] == 1


@pytest.mark.parametrize("before", ["its weights only", "a version that noted no number", "another database"])
def test_where_it_is_not_known_what_was_learnt_from_a_restart_counts_all_samples(
    at_end: AtEnd, tmp_path: Path, before: str
) -> None:
    """Such as after a kill between the two files of the own model."""
    site, chain = _site(at_end, tmp_path), ChainStore(tmp_path / "models")
    site.operate(200)
    site.participant(LEARNS).step()
    if before == "its weights only":
        (tmp_path / "models/own.cbor").unlink()
    else:
        of, newest_ns, last = cbor2.loads(chain._read("own.cbor") or b"")
        assert last == 200
        chain._write("own.cbor", cbor2.dumps([of, newest_ns, *([10**6] if before == "another database" else [])]))
    again = site.participant(LEARNS)
    again.step()
    again.step()
    assert again.status()["own"]["trained"] and again.status()["own"]["trainings"] == 1


def test_own_model_0_serves_the_file_and_says_so(at_end: AtEnd, tmp_path: Path) -> None:
    site = _site(at_end, tmp_path)
    site.operate(200)
    made = site.participant(msgspec.structs.replace(LEARNS, own_model=0.0))
    made.step()
    entry = made.status()
    assert entry["learns"] == "not" and entry["own_share"] is None and not (tmp_path / "models/own.bin").exists()
    assert "its file, samples " in _text(made) and "not trained here: no aggregator is joined, and own_model is 0" in (
        _text(made)
    )


def _trained(site: LonelySite) -> None:
    """Let the file be one that decides rightly already."""
    graph, rng = site.graph, np.random.default_rng(1)
    x = rng.normal(size=(2000, 2)).astype(np.float32)
    fit(graph, x, (x[:, 0] > 0).astype(np.int64), msgspec.structs.replace(LEARNS, epochs=20), rng)
    site.file.write_bytes(with_weights(site.file.read_bytes(), graph.initializers(graph.params)))


def test_a_trained_file_serves_as_it_is_until_a_whole_unit_is_held_back(at_end: AtEnd, tmp_path: Path) -> None:
    site = _site(at_end, tmp_path)
    _trained(site)
    site.operate(200, wrong=0.3)
    file = site.participant(msgspec.structs.replace(LEARNS, own_model=0.0))
    file.step()
    made = site.participant(LEARNS)
    made.step()
    entry = made.status()
    assert entry["own"]["trained"] and entry["own"]["guarded"] and entry["own_share"] is None
    assert np.array_equal(site.decided(made), site.decided(file))
    assert "its own model does not count yet, as the file is trained, and no whole run" in _text(made)


def test_a_trained_file_is_served_alone_where_held_back_units_show_nothing_better(
    at_end: AtEnd, tmp_path: Path
) -> None:
    site = _site(at_end, tmp_path)
    _trained(site)
    for _ in range(2):
        site.operate(60, wrong=0.5)  # what is learnt is noise
    for _ in range(4):
        site.operate(40)
    made = site.participant(LEARNS)
    made.step()
    entry = made.status()
    assert entry["judged_by"]["held"] >= 1 and not entry["own"]["guarded"]
    assert right(made) > 0.95 and not entry["own_share"]


def test_a_trained_file_that_does_not_fit_the_site_gives_way_where_units_show_it(at_end: AtEnd, tmp_path: Path) -> None:
    site = _site(at_end, tmp_path, untrained=False)
    for _ in range(6):
        site.operate(60)
    made = site.participant(LEARNS)
    made.step()
    assert made.status()["judged_by"]["held"] >= 1
    assert made.status()["own_share"] > 0.9 and right(made) > 0.8


class Away:
    """An uplink to an aggregator that never answers."""

    tried = 0

    def keep_certificate(self, now: float) -> None:
        """It lasts."""

    def asked(self, name: str) -> bool:
        """Nobody said otherwise."""
        return True

    def fetch_model(self, name: str) -> bytes:
        self.tried += 1
        raise UnreachableError("https://h:1: no answer")

    fetch_release = fetch_model


def test_while_the_aggregator_is_away_a_gateway_that_joined_learns_alone(at_end: AtEnd, tmp_path: Path) -> None:
    site, away = _site(at_end, tmp_path), Away()
    site.operate(200)
    made = site.participant(LEARNS, away)
    for _ in range(3):
        made._next_poll = 0.0  # when it was to call again
        made._attempt(made.step)  # as its thread does: the call fails
        made._attempt(made.step)  # and the next turn is one without a call
        site.operate(100)
    assert away.tried == 3 and "no answer" in str(made.status()["problem"])
    assert made.status()["own"]["trainings"] == 3 and right(made) > 0.8
    assert "learns alone until the aggregator gives a release" in _text(made)
    assert made.status()["learns"] == "alone" and made.status()["joined"]
    assert site.spool.update("m") is None


def test_what_is_missing_follows_new_samples_within_seconds(
    at_end: AtEnd, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = _site(at_end, tmp_path)
    made = site.participant(LEARNS)
    made.step()
    assert "; not ready to train: no samples yet" in _text(made)
    site.operate(17)
    made.step()
    assert "no samples yet" in _text(made)  # a look reads all samples, so it is not at every step
    monkeypatch.setattr(local_model, "SOON_S", 0.0)
    made.step()
    assert "; not ready to train: 13 of 40 samples that it may learn from" in _text(made)


def test_windows_that_it_may_not_learn_from_are_said_where_it_waits_for_more(at_end: AtEnd, tmp_path: Path) -> None:
    """Of a machine whose windows get labels, those without one may be faults."""
    card = Card("anomaly", (Channel("a"),), WindowSpec(1, 4, 2), ("mean", "std"))
    site = _site(at_end, tmp_path)
    site.file.write_bytes(zoo.autoencoder(card, 2, (2,)).SerializeToString())
    for i in range(34):
        site.samples.put(Sample("m", "pump", i, np.zeros(2, np.float32), None if i % 17 else 0, False))
    site.samples.flush()
    how = ModelConfig(file=site.file, training=Training(min_samples=16))
    made = Participant(
        "m", how, tmp_path / "models", site.samples, site.spool, None, None, lambda *_: None, lambda _: False,
        {"pump": Plan(labelled=True)},
    )  # fmt: skip
    made.restore()
    made.step()
    assert made.status()["waits_for"].endswith("at this site (has 34, of which it may learn from 2)")
