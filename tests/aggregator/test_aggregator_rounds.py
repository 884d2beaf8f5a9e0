"""The round never waits for the dead, never averages too few; the release chain is bit-exact."""

from __future__ import annotations

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from fedge_aggregator import publish
from fedge_aggregator.rounds import Round, RoundConfig
from fedge_models.errors import StaleError
from fedge_models.quantize import expand
from fedge_models.trust_chain import Anchor, verify_release
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

CONFIG = RoundConfig(quorum=3, deadline_s=60)


def started(*nodes: str) -> Round:
    made = Round("f", 1, CONFIG)
    for i, node in enumerate(nodes):
        made.admit(node, 1000.0 + i)
    return made


def test_all_active_nodes_in_ends_the_round_at_once() -> None:
    assert started("a", "b", "c", "d").due(1004, "abcd", 1)


def test_a_dead_node_is_not_waited_for_past_the_deadline() -> None:
    made = started("a", "b", "c")
    assert not made.due(1059.9, "abcd", 1)
    assert made.next_check(1030) == pytest.approx(30)
    assert made.due(1060, "abcd", 1)


def test_no_quorum_no_average_however_long() -> None:
    made = started("a", "b")
    assert not made.due(1e9, "abcd", 1) and made.next_check(1e9) is None
    assert "2 of at least 3" in made.waiting_for("abcd", 1) and "c, d" in made.waiting_for("abcd", 1)


def test_a_federation_smaller_than_its_quorum_goes_on_when_all_are_in() -> None:
    assert started("a", "b").due(1002, "ab", 1)


def test_the_rule_has_enough_rows_or_the_round_waits() -> None:
    assert not started("a", "b", "c").due(1e9, "abc", 5)


def test_second_update_of_a_node_is_stale() -> None:
    with pytest.raises(StaleError, match="one a round"):
        started("a").admit("a", 1001)


class RoundMachine(RuleBasedStateMachine):
    """Joins, deaths, updates and time in any order never block a round that has its quorum."""

    def __init__(self) -> None:
        super().__init__()
        self.now, self.round, self.active = 0.0, Round("f", 1, CONFIG), {"a", "b", "c", "d"}

    @rule(node=st.sampled_from("abcdefgh"))
    def join(self, node: str) -> None:
        self.active.add(node)

    @precondition(lambda self: len(self.active) > 1)
    @rule(data=st.data())
    def die(self, data: st.DataObject) -> None:
        self.active.discard(data.draw(st.sampled_from(sorted(self.active))))

    @rule(data=st.data())
    def send(self, data: st.DataObject) -> None:
        node = data.draw(st.sampled_from(sorted(self.active)))
        if node in self.round.arrivals:
            with pytest.raises(StaleError):
                self.round.admit(node, self.now)
        else:
            self.round.admit(node, self.now)

    @rule(seconds=st.floats(0, 100))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    @rule()
    def restart(self) -> None:
        self.round = Round("f", 1, CONFIG, dict(self.round.arrivals))

    @invariant()
    def due_when_it_must_and_only_when_it_may(self) -> None:
        have, due = len(self.round.arrivals), self.round.due(self.now, self.active, 2)
        if have >= 3 and self.now >= min(self.round.arrivals.values()) + 60:
            assert due
        if due:
            assert have >= 2
        if not due and have >= 3:
            assert self.round.next_check(self.now) is not None


TestRoundMachine = RoundMachine.TestCase


# --- publishing -------------------------------------------------------------------------------------------------

KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
SIZES = np.array([300, 20], np.int64)
SIGNER = publish.Signer("f", bytes(32), KEY, 3600)
ANCHOR = Anchor(KEY.public_key(), "f", bytes(32), SIZES)


def chain(rounds: int) -> tuple[list[publish.Published], np.ndarray]:
    rng = np.random.default_rng(0)
    weights = rng.normal(size=320).astype(np.float32)
    releases, exact = [publish.first_release(SIGNER, weights, SIZES, 1000)], weights.astype(np.float64)
    for _ in range(rounds):
        before = releases[-1]
        aggregate = rng.normal(0, 20, 320).astype(np.float32)
        exact += aggregate.astype(np.float64) * expand(before.header.steps, SIZES)
        spreads = [np.array([0.2, 0.02], np.float32)] * 3
        releases.append(publish.next_release(SIGNER, before, aggregate, spreads, SIZES, "r", {"nodes": 3.0}, 1000))
    return releases, exact


def test_nodes_that_follow_differences_hold_the_same_bits_as_one_that_comes_late() -> None:
    releases, _ = chain(20)
    head = verify_release(releases[0].full, ANCHOR, None, 1500)
    for published in releases[1:]:
        assert published.difference is not None
        head = verify_release(published.difference, ANCHOR, head, 1500)
    late = verify_release(releases[-1].full, ANCHOR, None, 1500)
    assert head.weights.tobytes() == late.weights.tobytes() == releases[-1].weights.tobytes()
    assert head.hash == late.hash


def test_a_long_chain_does_not_drift_from_the_exact_sum() -> None:
    releases, exact = chain(100)
    last = releases[-1]
    # What is missing is exactly what the residual still owes, plus float32 rounding.
    np.testing.assert_allclose(last.weights + last.residual, exact, atol=2e-4)


def test_grid_follows_the_median_spread_within_bounds() -> None:
    releases, _ = chain(6)
    assert releases[-1].header.steps == pytest.approx([0.2 / 127, 0.02 / 127], rel=1e-5)
    honest = [np.array([0.1], np.float32)] * 2
    liar = np.array([1e6], np.float32)
    steps = np.array([0.1 / 127], np.float32)
    assert publish.next_grid(steps, [*honest, liar]) == pytest.approx(steps)
    assert publish.next_grid(steps, [liar]) == pytest.approx(steps * 4)


def test_difference_is_a_quarter_of_the_full_release_or_less() -> None:
    releases, _ = chain(2)
    assert releases[-1].difference is not None
    assert len(releases[-1].difference) < 0.6 * len(releases[-1].full)  # 320 weights: headers weigh too
