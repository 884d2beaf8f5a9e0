# SPDX-License-Identifier: Apache-2.0
"""What a decision is compared with: the learnt limit, moved by what people found of the machine's alarms."""

from __future__ import annotations

import numpy as np
import pytest
from fedge_agent.config.schema import AssetConfig, ModelConfig, TagConfig, When
from fedge_agent.learning.closing_codes import UP
from fedge_agent.learning.limits import Limit
from fedge_agent.learning.serving import Serving, Session
from fedge_agent.machines.decider import Decider
from fedge_agent.machines.pace import Pace
from fedge_agent.samples.closings import Closing
from fedge_agent.types import Window
from fedge_models.graph import zoo
from fedge_models.graph.card import Card, Channel, WindowSpec
from fedge_models.graph.trainable import TrainableGraph
from fedge_models.training.standardise import Scale

DAY = 86_400 * 10**9
CHANNELS, WINDOW = (Channel("a"),), WindowSpec(1, 4, 4)
ANOMALY = Card("anomaly", CHANNELS, WINDOW, ("mean", "std"))
CLASSIFY = Card("classify", CHANNELS, WINDOW, ("mean", "std"), ("ok", "worn"), "ok")
UNSCALED = Scale(np.zeros(2, np.float32), np.ones(2, np.float32))


def serving(card: Card, limit: float, below: float | None = None) -> Serving:
    proto = zoo.autoencoder(card, 2, (1,)) if card.task == "anomaly" else zoo.mlp(card, 2, (3,))
    data = proto.SerializeToString()
    graph = TrainableGraph.load(data)
    made = Serving(Session(data, graph.initializers(graph.params)), graph.card, 1, UNSCALED, Limit(limit))
    made.below = {} if below is None else {"pump": below}
    return made


class Machine:
    """A decider of one machine, and what people found of its alarms."""

    def __init__(self, **when: object) -> None:
        self.found: tuple[Closing, ...] = ()
        config = AssetConfig(model="m", channels={"a": TagConfig(source="s", tag="a")}, when=When(**when))  # type: ignore[arg-type]
        self.decider = Decider("pump", config, ModelConfig(), lambda: self.found)

    def close(self, *faults: bool, ratio: float = 5.0) -> None:
        self.found = tuple(Closing(f"e{i}", i * DAY, fault, ratio) for i, fault in enumerate(faults))


def test_false_alarms_raise_the_limit_of_whatever_release_serves() -> None:
    machine, first, second = Machine(), serving(ANOMALY, 2.0), serving(ANOMALY, 40.0)
    assert machine.decider.limit(first) is first.limit("pump")
    machine.close(False, False)
    assert machine.decider.limit(first).score == pytest.approx(2.0 * UP**2)
    assert machine.decider.limit(second).score == pytest.approx(40.0 * UP**2)  # another release, other scores
    status = machine.decider.limit_status(second)
    assert status is not None and status["factor"] == pytest.approx(UP**2) and status["learnt"] == 40.0
    assert status["text"] == "limit raised to 1.08 × the learnt one after 2 false alarms (at most 1.5 ×)"
    machine.close()  # the labels were withdrawn
    assert machine.decider.limit(second).score == 40.0
    status = machine.decider.limit_status(second)
    assert status is not None and status["text"] == ""


def test_it_stays_below_the_windows_of_a_confirmed_fault() -> None:
    machine = Machine()
    machine.close(*[False] * 30)
    assert machine.decider.limit(serving(ANOMALY, 2.0)).score == 3.0
    assert machine.decider.limit(serving(ANOMALY, 2.0, below=2.2)).score == 2.2
    status = machine.decider.limit_status(serving(ANOMALY, 2.0, below=2.2))
    assert status is not None
    text = "limit raised to 1.10 × the learnt one after 30 false alarms (at most 1.5 ×; kept below a confirmed fault)"
    assert status["text"] == text


def test_a_probability_is_never_compared_with_what_it_cannot_reach() -> None:
    machine = Machine(raise_at_most=3.0)
    machine.close(*[False] * 60)
    assert machine.decider.limit(serving(CLASSIFY, 0.5)).score == 0.9


def test_a_configured_limit_and_a_bound_of_one_stay() -> None:
    for machine in (Machine(score_above=7.0), Machine(raise_at_most=1.0)):
        machine.close(*[False] * 9)
        limit = machine.decider.limit(serving(ANOMALY, 2.0)).score
        assert limit == (7.0 if machine.decider.limit_status(serving(ANOMALY, 2.0)) is None else 2.0)


def test_a_new_run_lifts_a_limit_that_codes_raised_no_further_than_the_larger_bound() -> None:
    machine = Machine()
    machine.close(*[False] * 60)
    config = AssetConfig(model="m", channels={"a": TagConfig(source="s", tag="a")}, limit_bound=4.0)
    decider = Decider("pump", config, ModelConfig(), lambda: machine.found, adapts=True)
    served = serving(ANOMALY, 2.0)
    served.limits = {"pump": Limit(2.0, middle=1.0, runs=1)}
    decider.begin(served.card, Pace(1.0, 4, 4, 3.0, 2.0))
    window = Window("pump", 10 * DAY, np.full((1, 4), 9.0), 0.0, None, 0)
    features = decider.features(window)
    assert features is not None
    assert decider.limit(served).score == 3.0  # codes alone
    decided = decider.decide(served, window, features, {})
    assert decided.learnt == 2.0 and decider.run_figures(served).in_use == decided.threshold
    served.scale_of_scores, served.limits = "own model, trained again", {"pump": Limit(2.0, middle=1.0, runs=1)}
    decider.decide(served, window, features, {})
    assert decider.run.state.scale == "own model, trained again"  # not only the release
    assert decided.threshold == 2.0 * config.limit_bound and config.limit_bound > 1.5


def test_stored_windows_are_compared_with_the_limit_of_what_scores_them() -> None:
    """A release was swapped in since the last window; its scores are twenty times as high."""
    config = AssetConfig(model="m", channels={"a": TagConfig(source="s", tag="a")}, limit_bound=4.0)
    decider = Decider("pump", config, ModelConfig(), adapts=True)
    served, other = serving(ANOMALY, 2.0, below=3.5), serving(ANOMALY, 40.0, below=70.0)
    for one, limit in ((served, 2.0), (other, 40.0)):
        one.limits, one.scale_of_scores = {"pump": Limit(limit, middle=limit / 2, runs=1)}, str(limit)
    decider.begin(served.card, Pace(1.0, 4, 4, 3.0, 2.0))
    began = 10 * DAY
    for i in range(12):
        decider.run.limit(served.limit("pump"), served.scale_of_scores, began + i * 4 * 10**9, most=3.5)
        decider.run.learn(2.4, began + i * 4 * 10**9, is_open=False)
    assert decider.run.state.level is not None
    ends = np.array([began - DAY, began - 1, began, began + 44 * 10**9])
    assert decider.limits_of(served, ends).tolist() == pytest.approx([2.0, 2.0, 3.0, 3.0], rel=1e-3)
    swapped = decider.limits_of(other, ends)
    assert swapped.tolist() == pytest.approx([40.0, 40.0, 60.0, 60.0], rel=1e-3)
    now = decider.run.limit(other.limit("pump"), other.scale_of_scores, began + 48 * 10**9, most=70.0)
    assert swapped[-1] == now.score


class Interrupted(Window):
    """A window during whose decision the status page, in its thread, looks at the machine with another release."""

    look = staticmethod(lambda: None)

    @property
    def end_ns(self) -> int:
        """When it ended."""
        self.look()
        return self[1]


def test_the_status_page_changes_no_decision_while_it_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    config = AssetConfig(model="m", channels={"a": TagConfig(source="s", tag="a")}, limit_bound=4.0)
    decider = Decider("pump", config, ModelConfig(), adapts=True)
    served, other = serving(ANOMALY, 2.0, below=5.0), serving(ANOMALY, 40.0)
    for one, limit in ((served, 2.0), (other, 40.0)):
        one.limits = {"pump": Limit(limit, middle=1.0, runs=1)}
    decider.begin(served.card, Pace(1.0, 4, 4, 3.0, 2.0))
    monkeypatch.setattr(Interrupted, "look", staticmethod(lambda: decider.limit_status(other)))
    window = Interrupted("pump", 10 * DAY, np.full((1, 4), 9.0), 0.0, None, 0)
    features = decider.features(window)
    assert features is not None
    assert decider.decide(served, window, features, {}).threshold == 5.0  # of a confirmed fault, with this release
