# SPDX-License-Identifier: Apache-2.0
"""How old what decides is, also where a clock is wrong, after a restart, and with damaged files."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest
from fedge_agent.cli.status_lines import _model
from fedge_agent.config.schema import Training
from fedge_agent.learning import model_age
from fedge_agent.samples.sample_table import Sample
from fedge_models.system.settings import Seconds
from support.at_end import AtEnd
from support.offline_site import OfflineSite

LEARNS = Training(min_samples=40, interval=Seconds(0), own_model=1.0, learning_rate=0.02, epochs=2, fine_tune=0)
DAY_S = 86400


@pytest.mark.parametrize(("now", "seconds"), [(1_003_600, 3600.0), (1_000_000, 0.0), (999_900, 0.0), (0, None)])
def test_the_age_of_a_release_is_unknown_while_the_clock_is_before_it(now: int, seconds: float | None) -> None:
    found = model_age.of_release(1_000_000, now)
    assert found.seconds == seconds and bool(found.why) == (seconds is None)


def test_the_age_of_the_own_model_goes_by_the_clock_of_its_samples() -> None:
    assert model_age.of_own(5 * 10**9, 65 * 10**9) == model_age.Age(60.0)
    assert model_age.of_own(65 * 10**9, 5 * 10**9) == model_age.Age(why=model_age.SET_BACK)


def test_status_says_how_old_the_release_and_the_own_model_are(at_end: AtEnd, tmp_path: Path) -> None:
    site = at_end(OfflineSite(tmp_path, samples=100))
    made = site.participant(training=LEARNS)
    assert made.status()["age"]["own_s"] is None  # there is none yet
    made.step()
    created, newest = site.head.header.created, site.samples.newest("m")
    age = made.model.age(created + 3 * DAY_S)
    assert age["release_s"] == 3 * DAY_S and 0 <= age["own_s"] <= newest / 1e9
    text = _model({**made.status(), "age": {**age, "own_s": 7300.0}}).text
    assert "; release made 3 days ago; own model learnt from data up to 2 h before the newest" in text
    before = made.model.age(created - DAY_S)
    assert before["release_s"] is None and before["served_s"] >= 0
    assert "; age of the release unknown: this machine's clock shows a time before it was made; it has served for " in (
        _model({**made.status(), "age": before}).text
    )
    assert "age" not in _model({**made.status(), "age": model_age.status(None, None, None)}).text.replace("damage", "")


def test_a_restart_keeps_the_age_of_the_own_model_and_a_damaged_file_is_said(at_end: AtEnd, tmp_path: Path) -> None:
    site = at_end(OfflineSite(tmp_path, samples=100))
    site.participant(training=LEARNS).step()
    again = site.participant(training=LEARNS)
    assert again.status()["age"]["own_s"] is not None
    (tmp_path / "models" / "own.cbor").write_bytes(b"damaged")
    lost = site.participant(training=LEARNS)
    assert lost.status()["age"]["own_s"] is None and lost.status()["own_share"] is not None
    assert list((tmp_path / "models").glob("own.cbor.*"))  # set aside


def test_training_again_makes_the_own_model_younger(at_end: AtEnd, tmp_path: Path) -> None:
    site = at_end(OfflineSite(tmp_path, samples=100))
    made = site.participant(training=LEARNS)
    made.step()
    first = made.model._model.own.learnt
    for i in range(100):
        site.samples.put(Sample("m", "pump", 10**12 + i, np.array([i - 50, 1], np.float32), int(i > 50), False))
    site.samples.flush()
    site.release(site.head.header.version + 1)
    made = site.participant(training=LEARNS)
    before = made.model.age(time.time())["own_s"]
    made.step()
    own = made.model._model.own
    assert first is not None and own.learnt is not None and own.learnt.newest_ns > first.newest_ns
    assert made.model.age(time.time())["own_s"] < before
