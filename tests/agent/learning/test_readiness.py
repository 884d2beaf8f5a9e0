# SPDX-License-Identifier: Apache-2.0
"""What keeps stored samples from being trained on, or makes it a waste, is found before and said in words."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fedge_agent.cli.status_lines import _model
from fedge_agent.config.schema import Training
from fedge_agent.health import _ready
from fedge_agent.learning import dataset
from fedge_agent.learning.readiness import Readiness, look
from fedge_agent.machines.data_remarks import of_windows
from fedge_agent.samples.sample_table import Sample
from fedge_agent.samples.store import Rows
from fedge_models.graph.card import Card, Channel, WindowSpec
from fedge_models.messages.idle import Idle
from fedge_models.privacy.budget import SitePrivacy
from fedge_models.system.settings import Seconds
from support.at_end import AtEnd
from support.offline_site import OfflineSite

CHANNELS, WINDOW = (Channel("flow"), Channel("pressure")), WindowSpec(1.0, 1, 1)
CLASSES = Card("classify", CHANNELS, WINDOW, labels=("ok", "worn"), normal="ok")
DAY_NS = 86400 * 10**9


def rows(count: int, y: Any = 0, asset: str = "a", days: float = 3.0) -> Rows:
    x = np.random.default_rng(count).normal(size=(count, 2)).astype(np.float32)
    times = np.linspace(0, days * DAY_NS, count, endpoint=False).astype(np.int64)
    labels = np.broadcast_to(np.asarray(y, np.int64), count).copy()
    return Rows(x, labels, np.full(count, asset), times, np.arange(count, dtype=np.int64))


def found(data: Rows, trained_on: int = 100, card: Card = CLASSES, assets: tuple[str, ...] = ("a",)) -> Readiness:
    return look(card, (2,), data, trained_on, 40, assets)


def test_sound_data_is_ready_and_nothing_is_said_of_it() -> None:
    assert found(rows(100, np.arange(100) % 2)) == Readiness()
    assert found(rows(100, -1), card=Card("anomaly", CHANNELS, WINDOW)) == Readiness()


@pytest.mark.parametrize(
    ("data", "trained_on", "lack", "text"),
    [
        (rows(0), 0, Idle.NO_SAMPLES, "no samples yet"),
        (rows(1200, -1), 0, Idle.NO_LABELS, "1,200 samples, but none with a label"),
        (rows(30, np.arange(30) % 2), 24, Idle.FEW_SAMPLES, "24 of 40 samples that it may learn from"),
    ],
)
def test_what_keeps_it_from_training_has_a_word_and_a_text(data: Rows, trained_on: int, lack: Idle, text: str) -> None:
    made = found(data, trained_on)
    assert (made.lack, made.text) == (lack, text)


def test_one_label_only() -> None:
    assert found(rows(100, 1)).remarks == {"a": ("only label worn",)}
    several = Card("multilabel", CHANNELS, WINDOW, labels=("worn", "hot"))
    assert found(rows(100)._replace(y=np.zeros((100, 2))), card=several).remarks == {"a": ("only label normal",)}


def test_labels_of_one_day_where_there_are_more_days() -> None:
    y = np.where(np.arange(120) < 40, np.arange(120) % 2, -1)
    assert found(rows(120, y)).remarks == {"a": ("all labels are of one day",)}
    assert found(rows(120, np.arange(120) % 2, days=0.5)).remarks == {}  # there are no others yet


def test_constant_channels_and_repeated_samples() -> None:
    data = rows(100, np.arange(100) % 2)
    data.x[:, 1] = 4.0
    assert found(data).remarks == {"a": ("constant: pressure",)}
    data = rows(100, np.arange(100) % 2)
    data.x[50:] = data.x[:50]
    assert found(data).remarks == {"a": ("50% of the samples repeat an earlier one",)}


def test_each_machine_is_judged_by_itself() -> None:
    assert found(rows(100, np.arange(100) % 2), assets=("a", "b")).remarks == {"b": ("no samples yet",)}


def test_windows_with_gaps_and_values_out_of_range() -> None:
    entry = {"counters": {"windows": 100}, "windows_with_gaps": 30, "out_of_range": {"flow": 12, "pressure": 1}}
    assert list(of_windows(entry)) == ["30% of the windows have too many gaps", "12 readings of flow out of range"]
    assert list(of_windows({**entry, "counters": {"windows": 10}})) == []


def test_recorded_data_is_judged_when_it_is_read(tmp_path: Path) -> None:
    x = np.zeros((60, 2), np.float32)
    x[:, 0] = np.arange(60) % 30
    np.savez(tmp_path / "data.npz", x=x, y=np.zeros(60, np.int64))
    notes = dataset.load(tmp_path / "data.npz", CLASSES, (2,)).notes
    assert notes == (
        "data: only label ok", "data: constant: pressure", "data: 50% of the samples repeat an earlier one",
    )  # fmt: skip


class Link:
    """An uplink that notes what is said of the site, and has no newer release."""

    def __init__(self) -> None:
        self.said: list[Idle | None] = []

    def keep_certificate(self, now: float) -> None:
        """Renew nothing."""

    def fetch_release(
        self, federation: str, have: int, cap: int, idle: Idle | None = None, serves: object = None
    ) -> None:
        self.said.append(idle)

    def asked(self, federation: str) -> bool:
        return True

    def submit(self, federation: str, body: bytes) -> None:
        """Take an update."""

    def statistics_number(self, federation: str) -> int:
        return 0


def test_the_aggregator_hears_why_nothing_comes_until_it_does(at_end: AtEnd, tmp_path: Path) -> None:
    site, link = at_end(OfflineSite(tmp_path, samples=20)), Link()
    made = site.participant(training=Training(min_samples=40, interval=Seconds(0)), uplink=link)
    made.step()
    made.step()
    assert link.said == [None, Idle.FEW_SAMPLES]  # at first nobody has looked
    readiness = made.status()["readiness"]
    assert readiness["trains"] and readiness["idle"] == "few_samples"
    assert "; not ready to train: 16 of 40 samples that it may learn from" in _model(made.status()).text
    for i in range(100):
        site.samples.put(Sample("m", "pump", 10**12 + i, np.array([i - 50, 1], np.float32), int(i > 50), False))
    site.samples.flush()
    made.model.rescale()
    made.step()
    made.step()
    assert made.status()["update"] is not None and made.status()["readiness"]["idle"] is None
    assert link.said[-1] is None and "not ready" not in _model(made.status()).text


def test_with_privacy_nothing_is_said_of_the_samples(at_end: AtEnd, tmp_path: Path) -> None:
    site, link = at_end(OfflineSite(tmp_path, samples=20)), Link()
    private = SitePrivacy(clip=1.0, noise_multiplier=5.0, epsilon=8.0, delta=1e-5)
    made = site.participant(private, Training(min_samples=40, interval=Seconds(0)), link)
    made.step()
    made.step()
    assert link.said == [None, None] and made.status()["readiness"]["lack"]


def test_where_nothing_is_trained_nobody_looks_at_the_samples(at_end: AtEnd, tmp_path: Path) -> None:
    site = at_end(OfflineSite(tmp_path, samples=20))
    (tmp_path / "models/head.cbor").unlink()
    made = site.participant(training=Training(own_model=0.0))
    made.step()
    entry = made.status()
    assert not entry["readiness"]["trains"] and made.model.readiness == Readiness()
    assert [values for _, _, values in _ready({"m": entry})] == [{}, {}]
