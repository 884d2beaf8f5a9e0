# SPDX-License-Identifier: Apache-2.0
"""A site's own model: no release makes the site worse off, a restart keeps it, and the aggregator hears of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from fedge_agent.cli.status_lines import _model
from fedge_agent.config.schema import Training
from fedge_agent.federation.participant import Participant
from fedge_agent.samples.sample_table import Sample
from fedge_agent.samples.store import SampleStore
from fedge_models.messages.release import Release, header_hash, weights_hash
from fedge_models.privacy.budget import SitePrivacy
from fedge_models.system.settings import Seconds
from support.at_end import AtEnd
from support.offline_site import OfflineSite

LEARNS = Training(min_samples=40, interval=Seconds(0), own_model=1.0, learning_rate=0.02, epochs=10, fine_tune=0)


def _site(at_end: AtEnd, folder: Path) -> OfflineSite:
    return at_end(OfflineSite(folder, samples=400))


def _right(made: Participant, sign: int = 1) -> float:
    """Share of windows that are decided as they should be: `bad` above zero."""
    assert made.serving is not None
    rows = np.random.default_rng(5).normal(size=(100, 2)).astype(np.float32)
    return float(np.mean([(made.serving.decide(row).label == "bad") == (sign * row[0] > 0) for row in rows]))


def _turned(head: Release, weights: Any) -> Release:
    header = msgspec.structs.replace(head.header, version=head.header.version + 1, weights=weights_hash(weights))
    return Release(header, header_hash(header), weights)


@pytest.mark.parametrize("own_model", [0.0, 1.0])
def test_a_release_that_the_canary_lets_pass_makes_no_site_worse_off(
    at_end: AtEnd, tmp_path: Path, own_model: float
) -> None:
    """The hostile release says the opposite of what is so, and nothing that serves is there to compare it with."""
    site = _site(at_end, tmp_path)
    made = site.participant(training=msgspec.structs.replace(LEARNS, own_model=own_model))
    made.step()
    assert (made.status()["own_share"] is not None) == bool(own_model)
    assert _right(made) > 0.9 or not own_model
    opposite = site.head.weights.copy()
    first = next(t for t in site.graph.layout if t.name == "dense0.weight")
    opposite[first.start : first.stop] *= -1  # the last layer stays at the site
    made.model._model.weights.release = None  # as after a state folder was lost: no canary
    made.model.try_release(_turned(site.head, opposite))
    if own_model:
        assert made.status()["own_share"] == 1 and _right(made) > 0.9
    else:
        assert made.status()["own_share"] is None and _right(made) < 0.5


def test_a_release_that_overflows_silences_no_site(at_end: AtEnd, tmp_path: Path) -> None:
    """Training on it diverges, so it comes before the site's own model is trained, and nothing compares with it."""
    site = _site(at_end, tmp_path)
    huge = np.where(site.head.weights < 0, np.float32(-1e25), np.float32(1e25))
    site.take(_turned(site.head, huge))
    made = site.participant(training=LEARNS)
    made.step()
    assert made.status()["trainings"][-1]["diverged"] and "diverged" in made.status()["problem"]
    assert made.status()["own_share"] == 1 and _right(made) > 0.9


def test_windows_that_one_decided_alone_stay_counted_when_something_else_serves(at_end: AtEnd, tmp_path: Path) -> None:
    site = _site(at_end, tmp_path)
    made = site.participant(training=LEARNS)
    made.step()
    assert made.serving is not None and made.status()["decided_by_one"] == 0
    made.serving.session.by_one = 3
    for _ in range(2):
        made.model.serve()
        assert made.status()["decided_by_one"] == 3 and made.serving.session.by_one == 0


def test_a_restart_keeps_the_own_model_and_its_share(at_end: AtEnd, tmp_path: Path) -> None:
    site = _site(at_end, tmp_path)
    first = site.participant(training=LEARNS)
    first.step()
    assert first.serving is not None and first.status()["own_share"] > 0.5  # release 3 is untrained
    again = site.participant(training=LEARNS)
    assert again.status()["own_share"] == pytest.approx(first.status()["own_share"], abs=1e-6)
    row = np.array([0.1, -0.2], np.float32)
    assert again.serving is not None
    assert again.serving.decide(row).score == pytest.approx(first.serving.decide(row).score, abs=1e-6)
    (tmp_path / "models" / "own.bin").write_bytes(b"damaged")
    lost = site.participant(training=LEARNS)
    assert lost.status()["own_share"] is None and lost.serving is not None


class NotAsked:
    """An uplink whose aggregator wants no update of this site, and has no newer release."""

    def keep_certificate(self, now: float) -> None:
        """It lasts."""

    def fetch_release(self, name: str, have: int, longest: int, idle: object = None, serves: object = None) -> None:
        """There is none."""

    def asked(self, name: str) -> bool:
        """Others are."""
        return False


def test_a_site_that_is_not_asked_trains_its_own_model_and_sends_nothing(at_end: AtEnd, tmp_path: Path) -> None:
    site = _site(at_end, tmp_path)
    made = site.participant(training=LEARNS, uplink=NotAsked())
    made.step()
    assert site.spool.update("m") is None and not made.status()["trainings"]
    assert made.status()["own_share"] is not None and _right(made) > 0.9
    first = made.model._model.own.weights
    made.step()
    assert made.model._model.own.weights is first  # once a release
    site.release(site.head.header.version + 1)
    again = site.participant(training=LEARNS, uplink=NotAsked())
    again.step()
    assert again.model.has_own and again.model._model.own.weights is not first


def test_a_site_whose_privacy_budget_is_spent_goes_on_with_its_own_model(at_end: AtEnd, tmp_path: Path) -> None:
    site = _site(at_end, tmp_path)
    paid = SitePrivacy(clip=1.0, noise_multiplier=0.2, epsilon=1.0, delta=1e-5)
    made = site.participant(paid, LEARNS)
    made.step()
    assert site.spool.update("m") is None and "privacy budget spent" in str(made.status()["privacy"])
    assert made.status()["own_share"] is not None and _right(made) > 0.9


def test_without_a_newer_release_the_own_model_learns_from_enough_new_samples(at_end: AtEnd, tmp_path: Path) -> None:
    site = _site(at_end, tmp_path)
    training = msgspec.structs.replace(LEARNS, new_samples=30)
    made = site.participant(training=training)
    made.step()
    first, sent = made.model._model.own.weights, site.update().sequence
    site.samples.total["m"] += 29
    made.step()
    assert made.model._model.own.weights is first
    site.samples.total["m"] += 1
    made.step()
    assert made.model._model.own.weights is not first and site.update().sequence == sent
    restarted = site.participant(training=training)
    was = restarted.model._model.own.weights
    restarted.step()
    assert restarted.model._model.own.weights is was  # a restart is no reason


def test_a_site_that_lost_its_samples_decides_as_before(at_end: AtEnd, tmp_path: Path) -> None:
    site = _site(at_end, tmp_path)
    first = site.participant(training=LEARNS)
    first.step()
    site.samples.stop()
    for file in tmp_path.glob("samples*"):
        file.unlink()
    site.samples = SampleStore(tmp_path / "samples", {"m": 1000})
    lost = site.participant(training=LEARNS)
    assert first.serving is not None and lost.serving is not None and sum(lost.status()["samples"].values()) == 0
    assert lost.status()["own_share"] == first.status()["own_share"] > 0.5
    row = np.array([0.1, -0.2], np.float32)
    assert lost.serving.decide(row) == first.serving.decide(row)


def test_the_aggregator_hears_the_share_but_not_with_privacy(at_end: AtEnd, tmp_path: Path) -> None:
    site = _site(at_end, tmp_path)
    made = site.participant(training=LEARNS)
    made.step()
    assert "base_own_share" not in site.update().metrics  # there was no own model before
    share = made.status()["own_share"]
    made._schedule.failed = True  # as if refused: it trains again on the same release
    made.step()
    assert site.update().metrics["base_own_share"] == pytest.approx(share)
    paid = SitePrivacy(clip=1.0, noise_multiplier=5.0, epsilon=8.0, delta=1e-5)
    site.release(site.head.header.version + 1)
    private = site.participant(paid, LEARNS)
    private.step()
    assert not site.update().metrics and private.status()["own_share"] is not None


def test_both_parts_of_what_serves_are_of_one_division(at_end: AtEnd, tmp_path: Path) -> None:
    """A sample that comes between the two may begin a unit, by which those after it have other numbers."""
    site = _site(at_end, tmp_path)
    made = site.participant(training=LEARNS).model
    before = made.usable(held=False)
    made.usable(held=True)
    site.samples.put(Sample("m", "another", 10**9, np.zeros(2, np.float32), 1, False))
    site.samples.flush()
    same = made.usable(held=False, divided_now=False)
    assert np.array_equal(same.units, before.units) and "another" not in same.assets
    assert "another" in [*made.usable(held=False).assets, *made.usable(held=True).assets]


def test_status_says_in_words_what_decides(at_end: AtEnd, tmp_path: Path) -> None:
    made = _site(at_end, tmp_path).participant(training=LEARNS)

    def said(**changes: object) -> str:
        return _model({**made.status(), **changes}).text

    assert said().startswith("release 3, samples")
    assert said(own_share=0.34).startswith("release 3 and this site's own model, which counts 34%, samples")
    assert said(own_share=0.0).startswith("release 3 alone, as this site's own model is clearly worse here, ")
    assert said(own_share=1.0).startswith("this site's own model alone, as release 3 is clearly worse here, ")
