# SPDX-License-Identifier: Apache-2.0
"""Questions to people: stored, kept with their window, ended by an answer or by time, never more than a day's few."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from fedge_agent.config.schema import Questions
from fedge_agent.samples import question_table
from fedge_agent.samples.label_book import LabelBook, Subject
from fedge_agent.samples.question import Question, key_of, why_not_now
from fedge_agent.samples.question_book import QuestionBook
from fedge_agent.samples.sample_table import Sample
from fedge_agent.samples.store import SampleStore
from fedge_agent.types import Label
from fedge_models.errors import DataError
from fedge_models.graph.card import Card, Channel, WindowSpec
from fedge_models.system.settings import Positive
from support.databases import change, rows

S = 1_000_000_000
DAY = 86_400 * S
T0 = 1_700_000_000 * S
CARD = Card("classify", (Channel("a"),), WindowSpec(1, 10, 5), ("mean",), ("ok", "worn"), "ok")


def question(end_ns: int, asset: str = "pump", asked_ns: int = T0) -> Question:
    return Question(
        0, key_of("gw", "m", asset, end_ns), "m", asset, end_ns - 10 * S, end_ns, "", "ok", "ok 0.51, worn 0.49",
        "uncertain", "the model is uncertain (0.98 of 1)", "one of ok, worn", 3, asked_ns,
    )  # fmt: skip


class Site:
    """Samples, labels and questions in one file, as an agent opens them; no thread runs."""

    def __init__(self, folder: Path, most: int = 1000, expire_s: float = 7 * 86_400) -> None:
        self.path, self.most = folder / "samples.sqlite", most
        self.asks = Questions(a_day=2, expire=Positive(expire_s))
        self.sent: list[tuple[str, str]] = []
        self.open()

    def open(self) -> None:
        self.samples = SampleStore(self.path, {"m": self.most})
        self.labels = LabelBook(self.path, {"pump": Subject("m", lambda: CARD)}, self.samples.count_as_new)
        self.book = QuestionBook(
            self.path, {"m": self.asks}, send=lambda q: self.sent.append((q.key.rpartition(":")[2], q.state))
        )

    def close(self) -> None:
        self.book.stop()
        self.labels.stop()
        self.samples.stop()

    def put(self, *seconds: int, y: float | None = None, asset: str = "pump") -> None:
        """Store windows of ten seconds that end so long after T0."""
        for s in seconds:
            self.samples.put(Sample("m", asset, T0 + s * S, np.array([s], np.float32), y, False, 10 * S))
        self.samples.flush()

    def states(self) -> list[str]:
        return [f"{q.state} {q.answer}".strip() for q in self.book.listed()]


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    made = Site(tmp_path)
    yield made
    made.close()


def test_a_label_of_exactly_its_window_answers_a_question(site: Site) -> None:
    site.put(*range(0, 100, 10))
    assert site.book.ask(question(T0 + 50 * S))
    site.labels.put(Label("pump", T0, T0 + 90 * S, "nonsense", "hand"))  # of another time
    assert site.states() == ["open"]
    site.labels.put(Label("pump", T0 + 40 * S, T0 + 50 * S, "worn", "mes"))
    site.labels.match_new()
    assert site.states() == ["answered worn (mes)"]
    assert rows(site.path, "SELECT time_ns FROM samples WHERE y IS NOT NULL") == [(T0 + 50 * S,)]
    assert site.book.status()["counts"]["answered"] == {"uncertain": 1} and site.book.status()["open"] == []


def test_a_label_that_the_model_does_not_know_answers_nothing(site: Site) -> None:
    site.put(0, 50)
    site.book.ask(question(T0 + 50 * S))
    site.labels.put(Label("pump", T0 + 40 * S, T0 + 50 * S, "worm", "mes"))
    site.labels.match_new()
    assert site.states() == ["open"]


def test_a_question_ends_when_something_else_labels_its_window_or_it_is_gone(site: Site) -> None:
    site.put(50, 80)
    site.book.ask(question(T0 + 50 * S))
    site.book.ask(question(T0 + 80 * S))
    site.labels.put(Label("pump", T0, T0 + 60 * S, "ok", "inspection"))
    site.labels.match_new()
    change(site.path, f"DELETE FROM samples WHERE time_ns = {T0 + 80 * S}")
    assert site.states() == ["labelled", "lost"]


def test_a_question_is_too_late_after_its_time_by_the_machines_own_clock(tmp_path: Path) -> None:
    site = Site(tmp_path, expire_s=3600)
    site.put(50)
    site.book.ask(question(T0 + 50 * S))
    site.put(3600)
    assert site.states() == ["open"]
    site.put(3700)
    assert site.states() == ["expired"]
    site.close()


def test_a_window_is_kept_while_somebody_is_asked_about_it(tmp_path: Path) -> None:
    site = Site(tmp_path, most=5)
    site.put(0, 10, 20)
    site.book.ask(question(T0 + 10 * S))
    site.put(*range(30, 100, 10))
    left = [t for (t,) in rows(site.path, "SELECT (time_ns - ?) / 1000000000 FROM samples ORDER BY id", T0)]
    assert left == [10, 60, 70, 80, 90]
    site.book.skip(1, "")
    site.put(100)
    left = [t for (t,) in rows(site.path, "SELECT (time_ns - ?) / 1000000000 FROM samples ORDER BY id", T0)]
    assert left == [60, 70, 80, 90, 100]
    site.close()


def test_windows_that_wait_too_long_for_a_label_are_kept_while_asked(site: Site) -> None:
    from fedge_agent.samples import sample_table

    site.put(10, 20, 5000)
    site.book.ask(question(T0 + 10 * S))
    with site.labels.tables.transaction() as db:
        assert sample_table.expire(db, "pump", "m", 3600 * S) == 1
    assert rows(site.path, "SELECT count(*) FROM samples WHERE time_ns = ?", T0 + 10 * S) == [(1,)]


def test_questions_survive_a_restart_and_are_sent_once(site: Site) -> None:
    site.put(10, 20)
    site.book.ask(question(T0 + 10 * S))
    site.book._round()
    site.book._round()
    site.close()
    site.open()
    site.book._round()
    assert site.sent == [(f"question-{T0 + 10 * S}", "open")] and site.states() == ["open"]
    site.book.skip(1, "nobody was there")
    for _ in range(3):
        site.book._round()
    assert site.sent[1:] == [(f"question-{T0 + 10 * S}", "skipped")]


def test_each_second_only_what_may_change_is_read_again(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    site.put(10, 20)
    site.book.ask(question(T0 + 10 * S))
    site.book.ask(question(T0 + 20 * S))
    for _ in range(2):
        site.book._round()
    read = []
    all_of = question_table.all_of
    monkeypatch.setattr(question_table, "all_of", lambda db: read.append(1) or all_of(db))  # type: ignore[func-returns-value]
    for _ in range(5):
        site.book._round()
    assert read == []
    change(site.path, "UPDATE questions SET state = 'skipped' WHERE id = 2")  # another process
    site.book._round()
    assert site.sent[2:] == [(f"question-{T0 + 20 * S}", "skipped")]
    assert [q.state for q in site.book.of("m")] == ["open", "skipped"]
    site.book._round()  # notes that the outputs have it
    assert [q.sent for q in site.book.of("m")] == [1, 2]
    change(site.path, "DELETE FROM questions WHERE id = 1")
    site.book._round()
    assert [q.id for q in site.book.of("m")] == [2]


def test_a_question_that_outputs_may_not_have_is_sent_again_after_a_kill(site: Site) -> None:
    site.put(10)
    site.book.ask(question(T0 + 10 * S))
    site.book._round()  # handed over; the process is killed before it is noted
    site.close()
    site.open()
    site.book._round()
    assert site.sent == [(f"question-{T0 + 10 * S}", "open")] * 2


def test_a_window_is_asked_about_once(site: Site) -> None:
    site.put(10)
    assert site.book.ask(question(T0 + 10 * S))
    assert not site.book.ask(question(T0 + 10 * S))


def test_a_number_that_is_not_open_is_refused_with_those_that_are(site: Site) -> None:
    site.put(10, 20)
    site.book.ask(question(T0 + 10 * S))
    site.book.ask(question(T0 + 20 * S))
    site.book.skip(1, "")
    with pytest.raises(DataError, match=r"question 1 is skipped; open ones: 2 "):
        site.book.find(1)
    with pytest.raises(DataError, match=r"question 7 is not there; open ones: 2 "):
        site.book.skip(7, "")


def test_the_budget_is_spread_over_the_day() -> None:
    asked = [question(T0, asked_ns=T0)._replace(state="answered")]
    assert why_not_now(asked, 2, T0 + DAY // 2 - S) == "its next question is not due yet"
    assert why_not_now(asked, 2, T0 + DAY // 2) is None
    assert why_not_now(asked, 2, T0 - 400 * DAY) is None  # the clock was set back
    assert why_not_now(asked, 0, T0 + DAY) == "questions.a_day is 0"
    assert why_not_now([q._replace(state="open") for q in asked * 4], 2, T0 + 9 * DAY) == "4 wait for an answer"


def test_a_past_that_is_read_in_minutes_gets_the_questions_of_one_day(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [100.0]
    monkeypatch.setattr("fedge_agent.samples.question_book.time.monotonic", lambda: now[0])
    for day in range(3):
        site.put(day * 86_400)
        if site.book.why_not_now("m", T0 + day * DAY) is None:
            site.book.ask(question(T0 + day * DAY, asked_ns=T0 + day * DAY))
    assert len(site.states()) == 2
    assert site.book.why_not_now("m", T0 + 9 * DAY) == "it has asked for today"
    now[0] += 86_401
    assert site.book.why_not_now("m", T0 + 9 * DAY) is None


def test_a_question_about_a_machine_that_stands_still_expires_while_others_run(tmp_path: Path) -> None:
    site = Site(tmp_path, expire_s=3600)
    site.put(50)
    site.book.ask(question(T0 + 50 * S))
    site.put(3700, asset="fan")
    assert site.states() == ["expired"]
    site.close()


def test_many_samples_of_another_model_end_no_question(site: Site) -> None:
    site.put(50)
    site.book.ask(question(T0 + 50 * S))
    site.samples.put(Sample("other", "fan", T0 + 999 * DAY, np.zeros(1, np.float32), None, False, S))
    site.samples.flush()
    change(site.path, "UPDATE samples SET id = id + 5000 WHERE model = 'other'")
    assert site.states() == ["open"]
