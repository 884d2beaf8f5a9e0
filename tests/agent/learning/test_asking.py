# SPDX-License-Identifier: Apache-2.0
"""A gateway asks about the stored window that is worth most, once an episode, and not of what events ask already."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from fedge_agent.config.schema import ModelConfig, Questions, Training
from fedge_agent.durable.releases import ChainStore
from fedge_agent.durable.spool import Spool
from fedge_agent.federation.participant import Participant
from fedge_agent.learning import label_worth
from fedge_agent.learning.asking import FEWEST, LOOK_S, Asker, Seen
from fedge_agent.learning.local_model import LocalModel
from fedge_agent.learning.mixture import Blend
from fedge_agent.learning.serving import Serving
from fedge_agent.samples.event_book import EventBook
from fedge_agent.samples.question import Question
from fedge_agent.samples.question_book import QuestionBook
from fedge_agent.samples.sample_table import Sample
from fedge_agent.samples.store import SampleStore
from fedge_agent.types import Decision, Event
from fedge_models.graph import zoo
from fedge_models.graph.card import Card, Channel, Target, WindowSpec
from fedge_models.graph.trainable import TrainableGraph
from support.at_end import AtEnd
from support.offline_site import OfflineSite

S = 1_000_000_000
DAY = 86_400 * S
T0 = 1_700_000_000 * S


class Site:
    """A classifier that serves at one site, its questions, and windows without labels of two machines."""

    def __init__(self, folder: Path, a_day: float = 4) -> None:
        self.site = OfflineSite(folder)
        self.samples = self.site.samples
        path = folder / "samples"
        self.events = EventBook(path, beside=self.samples.tables)
        self.book = QuestionBook(path, {"m": Questions(a_day=a_day)}, self.samples.tables, self.events.tables)
        self.asker = Asker("gw", "m", self.samples, self.book, self.events)
        self.participant: Participant = self.site.participant()
        self.now = 0.0

    def close(self) -> None:
        self.book.stop()
        self.events.stop()
        self.site.close()

    def put(self, x: float, seconds: float, asset: str = "pump") -> int:
        """Store a window without a label; when it ended. Its doubt is largest where x is 0."""
        end = T0 + round(seconds * S)
        self.samples.put(Sample("m", asset, end, np.array([x, 0], np.float32), None, False, 3 * S, "P7"))
        self.samples.flush()
        return end

    def look(self) -> str:
        """Look once; why nothing more is asked now."""
        self.now += LOOK_S
        self.asker.look(self.participant.model, self.now)
        return self.book.notes.get("m", "")

    def asked(self) -> list[Question]:
        return self.book.listed()


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    made = Site(tmp_path)
    yield made
    made.close()


def doubt(site: Site, x: float) -> float:
    """How close the two classes are, as served."""
    serving = site.participant.serving
    assert serving is not None
    return 1 - abs(2 * serving.decide(np.array([x, 0], np.float32)).score - 1)


def test_it_asks_about_a_window_that_is_unsure_and_unlike_the_labelled_ones(site: Site) -> None:
    for i in range(30):
        site.put(0.001 * i, 1000 * i)
    site.put(25.0, 40_000)
    site.look()
    [asked] = site.asked()
    far = doubt(site, 25.0)
    assert asked.end_ns == T0 + 40_000 * S if far > 0.05 else asked.end_ns < T0 + 40_000 * S
    assert (asked.model, asked.asset, asked.part, asked.start_ns) == ("m", "pump", "P7", asked.end_ns - 3 * S)
    assert asked.says.startswith(("ok 0.", "bad 0.", "ok 1.", "bad 1.")) and asked.release == 3
    assert "of 1)" in asked.why and asked.answers.startswith("one of ok, bad")
    assert site.look() == "its next question is not due yet" and len(site.asked()) == 1


def test_a_large_model_looks_at_as_many_windows_as_a_small_one(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    graph = site.participant.model.graph
    assert graph is not None
    monkeypatch.setattr(label_worth, "MOST_VALUES", 40 * 2)  # those of 40 windows
    assert graph.params.size > 2  # more values than a window has
    doubtful = site.put(5.0, 1000)
    for i in range(30):  # newer ones that nobody asks about
        site.put(np.nan, 2000 + 1000 * i)
    site.look()
    assert [q.end_ns for q in site.asked()] == [doubtful]


def test_one_episode_is_asked_about_once(site: Site) -> None:
    first = site.put(5.0, 10_000)
    site.look()
    assert [q.end_ns for q in site.asked()] == [first]
    for i in range(1, 60):  # the same again, for nine minutes; then the next question is due
        site.put(5.0 + i / 10, 10_000 + i * 9)
    site.samples.put(Sample("m", "pump", T0 + 49_990 * S, np.array([9, 0], np.float32), 1, False, 3 * S))
    site.samples.flush()
    assert site.look() == "no stored window of the last day is without a label, event or question"
    later = site.put(6.0, 50_000)
    site.look()
    assert [q.end_ns for q in site.asked()] == [first, later]


def test_what_an_event_asks_about_is_no_question(site: Site) -> None:
    end = site.put(5.0, 1000)
    decision = Decision("pump", "m", 3, end - S, 0.9, 0.5, "bad", 0.0, 0.0)
    site.events.note(Event("gw:m:pump:1", "opened", decision, 0.9))
    site.events.flush()
    assert site.look() == "no stored window of the last day is without a label, event or question"
    assert site.asked() == []


def test_questions_go_to_the_machines_in_turn(site: Site) -> None:
    for i in range(40):
        for j, asset in enumerate(("pump", "fan")):
            site.put(4.0 + i / 7 + j, i * 10_000, asset)
        site.look()
    assets = [q.asset for q in site.asked()]
    assert len(assets) == 4 and sorted(assets) == ["fan", "fan", "pump", "pump"]


def test_a_budget_of_nothing_asks_nothing(tmp_path: Path) -> None:
    site = Site(tmp_path, a_day=0)
    site.put(5.0, 1000)
    assert site.look() == "" and site.asked() == []
    site.close()


def test_a_model_that_does_not_serve_or_has_few_windows_says_so(tmp_path: Path) -> None:
    site = Site(tmp_path)
    site.participant.model.serving = None
    assert site.look() == "the model does not decide yet"
    site.close()
    assert FEWEST > 1


def test_windows_with_labels_only_leave_nothing_to_ask(site: Site) -> None:
    assert "only with label.late = DURATION" in site.look()


def test_a_question_compares_with_the_limit_in_use(tmp_path: Path, at_end: AtEnd) -> None:
    card = Card("anomaly", (Channel("a"), Channel("b")), WindowSpec(1, 1, 1))
    samples, spool = at_end(SampleStore(tmp_path / "s", {"m": 5000})), at_end(Spool(tmp_path / "spool"))
    config, chain = ModelConfig(training=Training(min_samples=64)), ChainStore(tmp_path / "c")
    model = LocalModel("m", config, chain, samples, spool, lambda *_: None, lambda: None, {})
    model.adopt(zoo.autoencoder(card, (2, 1), (1,)).SerializeToString())
    model.restore(None)
    rng = np.random.default_rng(0)
    for i in range(300):
        row = rng.normal(0, 1, (2, 1)).astype(np.float32)
        samples.put(Sample("m", "pump", T0 + i * 10 * S, row, None, i % 5 == 0, S))
    samples.flush()
    model.rescale()
    assert model.serving is not None
    learnt = model.serving.limit("pump").score
    book = at_end(QuestionBook(tmp_path / "s", {"m": Questions(a_day=4)}, samples.tables))
    asked_of: list[str] = []

    def limits(asset: str, serving: Serving, ends: np.ndarray) -> np.ndarray:
        """Windows of the last 1,000 s are of a run with another limit."""
        asked_of.append(asset)
        assert serving is model.serving and len(ends) > 100 and ends.min() == T0
        return np.where(ends >= T0 + 2000 * S, 10.0, 20.0) * serving.limit(asset).score

    asker = Asker("gw", "m", samples, book, None, limits)
    asker.look(model, LOOK_S)
    [asked] = book.listed()
    factor = 10 if asked.end_ns >= T0 + 2000 * S else 20
    assert np.isfinite(learnt) and asked.says.endswith(f" of {factor * learnt:.3g}"), (asked, learnt)
    assert asked.label == "normal" and set(asked_of) == {"pump"}


def seen_by(card: Card, x: list[float], limit: float = 1.0) -> Seen:
    """What an untrained model of one channel says of one window."""
    proto = zoo.autoencoder(card, 2, (1,)) if card.task == "anomaly" else zoo.mlp(card, 2, (3,))
    graph = TrainableGraph.load(proto.SerializeToString())
    own = graph.params + np.float32(0.3)
    blend = Blend(graph, graph.params.copy(), own, 0.5)
    return Seen(blend, np.array([x], np.float32), np.array([limit]))


CHANNELS, WINDOW = (Channel("a"),), WindowSpec(1, 4, 2)


@pytest.mark.parametrize(
    ("card", "label", "says"),
    [
        (Card("anomaly", CHANNELS, WINDOW, ("mean", "std")), "anomaly", r"anomaly, score [\d.]+ of 1"),
        (
            Card("multilabel", CHANNELS, WINDOW, ("mean", "std"), ("worn", "leak")),
            r"normal|worn|leak|worn;leak",
            r"(normal|worn|leak|worn;leak) \(worn 0\.\d\d of 0\.5, leak 0\.\d\d of 0\.5\)",
        ),
        (
            Card("regress", CHANNELS, WINDOW, ("mean", "std"), targets=(Target("wear", "mm", centre=1, scale=2),)),
            "wear",
            r"wear -?[\d.]+ mm",
        ),
        (Card("classify", CHANNELS, WINDOW, ("mean", "std"), ("ok", "bad"), "ok"), "ok|bad", r"(ok|bad) 0\.\d\d, .*"),
    ],
    ids=lambda v: getattr(v, "task", ""),
)
def test_it_says_what_the_model_and_each_of_its_two_say(card: Card, label: str, says: str) -> None:
    seen = seen_by(card, [30.0, -20.0])
    worth = seen.worth(np.zeros((0, 2), np.float32))
    assert re.fullmatch(label, seen.label(0)) and re.fullmatch(says, seen.says(0))
    assert re.fullmatch(rf"this site's own model says {says}, the release {says}", seen.apart(0))
    assert 0 < worth.disagreeing[0] <= 1 and 0 <= worth.uncertain[0] <= 1


def test_a_machine_without_a_limit_is_neither_normal_nor_not() -> None:
    seen = seen_by(Card("anomaly", CHANNELS, WINDOW, ("mean", "std")), [30.0, -20.0], np.inf)
    assert seen.label(0) == "unknown" and seen.says(0).endswith(" without a limit")
