# SPDX-License-Identifier: Apache-2.0
"""What a federation makes of a round on its real store: trust, mixing, optimisers, privacy; what survives restarts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fedge_aggregator.config.averaging import build_averaging
from fedge_aggregator.config.load import load
from fedge_aggregator.config.schema import FederationConfig
from fedge_aggregator.federation import gathering
from fedge_aggregator.rounds import average
from fedge_aggregator.rounds.central_privacy import Privacy
from fedge_aggregator.rounds.engine.runners import LOCAL
from fedge_aggregator.rounds.engine.update_rows import MemoryRows
from fedge_aggregator.rounds.trust.reputation import Reputation
from fedge_models.errors import ConfigError
from fedge_models.graph.trainable import TrainableGraph
from fedge_models.messages.quantize import LIMIT
from support.federation_bench import GRAPH, MODEL, FederationBench, MakeBench, P

PRIVATE = "[federation.f.privacy]\nclip = 1.0\nnoise_multiplier = 2.0\nepsilon = 4.0\ndelta = 1e-3\n"
RNG = np.random.default_rng(0)
COMMON = RNG.normal(0, 30, P)


def codes(spread: float = 10.0, sign: float = 1.0) -> Any:
    made = np.rint(sign * (COMMON + RNG.normal(0, spread, P)))
    return np.clip(made, -LIMIT, LIMIT).astype(np.int8)


def play(made: FederationBench, rounds: int, hostile: str = "", nodes: str = "abcd") -> None:
    for _ in range(rounds):
        for name in nodes:
            made.send(name, codes=codes(sign=-3.0 if name in hostile else 1.0))
        made.step(nodes)


def test_nodes_without_weight_for_what_they_push_are_counted(make_bench: MakeBench) -> None:
    made = make_bench()
    assert made.federation.doubted() == 0
    made.store.round_states.set_reputation("f", "d", Reputation(suspicion=2.0, doubted=True))
    assert made.federation.doubted() == 1 and made.federation.quarantined() == 0
    assert any("had no weight" in line for line in made.federation.status(made.now, "abcd")["trust"]["d"])


def test_hostile_node_is_quarantined_weighs_nothing_and_an_operator_lets_it_out(make_bench: MakeBench) -> None:
    made = make_bench("quorum = 2\n")
    play(made, 6, hostile="d")
    [(node, detail)] = [(n, d) for n, d in made.audit("trust") if "is in quarantine" in d] or [(None, "")]
    assert "d is in quarantine: " in detail, (node, detail)
    made.open()  # as after a restart
    play(made, 1, hostile="d")
    last = made.store.releases.listed("f")[-1].details["nodes"]
    assert last["d"]["share"] == 0 and sum(n["share"] for n in last.values()) == pytest.approx(1)
    listed = {row["name"]: row["trust"] for row in made.cli("nodes", "list", "--json")}
    assert listed["d"] == {"f": 0} and listed["a"]["f"] > 0.3
    assert "d: in quarantine, no weight" in made.cli("nodes", "list")
    assert "in quarantine" in str(made.federation.status(made.now, set("abcd"))["trust"]["d"])
    assert made.federation.quarantined() == 1
    made.cli("nodes", "release", "d", "--federation", "f")
    assert made.federation.quarantined() == 0 and "let out of quarantine by" in made.audit("trust")[-1][1]
    play(made, 1)
    assert 0 < made.store.releases.listed("f")[-1].details["nodes"]["d"]["share"] < 0.2  # on probation


def test_rule_that_asks_no_weights_does_not_see_who_is_in_quarantine(make_bench: MakeBench) -> None:
    made = make_bench(rule='{ name = "trimmed_mean", byzantine = 0 }')  # the mean, whatever anybody weighs
    play(made, 6, hostile="d")
    assert made.federation.quarantined() == 1
    before = made.federation.current
    for name in "abcd":
        made.send(name, code=-100 if name == "d" else 100)
    assert made.step() == before.header.version + 1
    steps = np.repeat(before.header.steps, GRAPH.sizes)
    np.testing.assert_allclose((made.federation.current.weights - before.weights) / steps, 100, rtol=0.05)


def test_watching_trust_changes_no_weight(make_bench: MakeBench) -> None:
    made = make_bench('quorum = 2\n[federation.f.trust]\naction = "watch"\n')
    play(made, 6, hostile="d")
    assert made.store.releases.listed("f")[-1].details["nodes"]["d"]["share"] == pytest.approx(0.25)


@pytest.mark.parametrize("action", ["quarantine", "watch"])
def test_update_that_repeats_the_last_release_is_left_out_also_after_a_restart(
    make_bench: MakeBench, action: str
) -> None:
    keys = 'quorum = 2\nserver_optimizer = { name = "fedavgm", momentum = 0.5 }\n[federation.f.trust]\n'
    made, before = make_bench(f'{keys}action = "{action}"\n'), GRAPH.params
    for _ in range(3):
        last = made.federation.current
        moved = (last.weights - before) / np.repeat(last.header.steps, GRAPH.sizes)
        before = last.weights
        for name in "abc":
            made.send(name, codes=codes(60.0))
        replay = moved * min(1.0, 100 / max(np.abs(moved).max(), 1e-6)) + RNG.normal(0, 2, P)
        made.send("d", codes=np.rint(replay).astype(np.int8))
        made.step()
        made.open()
    shares = [row.details["nodes"]["d"]["share"] for row in made.store.releases.listed("f")[-2:]]
    assert shares == [0, 0] if action == "quarantine" else min(shares) > 0.2
    assert made.federation.quarantined() == 0
    assert (made.store.round_states.load("f").last_step is not None) == (action == "quarantine")


def test_cosines_with_the_last_movement_cost_the_others_no_bit() -> None:
    rows = MemoryRows(list(RNG.integers(-LIMIT, LIMIT + 1, (5, 7000)).astype(np.int8)))
    grid = np.full(7000, 0.01, np.float32)
    due = average.DueRound("f", 1, grid, grid, [], rows, (), 0.0, 0)
    alone, none = average._compare(due, None, LOCAL)
    gram, similarity = average._compare(due, rows.block(0, 7000)[2] * np.float32(1e-4), LOCAL)
    assert none is None and similarity is not None
    np.testing.assert_array_equal(gram, alone)
    np.testing.assert_allclose(similarity, alone[2] / np.sqrt(np.diag(alone) * alone[2, 2]), atol=1e-6)


def test_optimiser_goes_on_where_it_was_after_a_restart(make_bench: MakeBench, tmp_path: Path) -> None:
    keys = 'quorum = 2\nserver_optimizer = { name = "fedavgm", momentum = 0.5 }\n'
    weights = []
    for restarted, folder in ((False, tmp_path / "a"), (True, tmp_path / "b")):
        folder.mkdir()
        made = make_bench(folder=folder, keys=keys)
        for k in range(3):
            made.round("a", "b", code=10 if k == 0 else 0)
            if restarted:
                made.open()
        weights.append(made.federation.current.weights - GRAPH.params)
    np.testing.assert_array_equal(weights[0], weights[1])
    assert weights[0].mean() > 1.7 * 10 * 0.1 / LIMIT  # 1 + 1/2 + 1/4 times the one update


def test_rollback_forgets_where_the_optimiser_was_going(make_bench: MakeBench) -> None:
    made = make_bench('quorum = 2\nserver_optimizer = { name = "fedavgm" }\n')
    made.round("a", "b", code=10)
    made.cli("release", "rollback", "f", "1")
    assert made.step() == 3
    made.round("a", "b", code=0)
    np.testing.assert_array_equal(made.federation.current.weights, GRAPH.params)


def test_mixing_comes_before_the_rule(make_bench: MakeBench) -> None:
    keys = 'mixing = { name = "nearest_neighbour_mixing", byzantine = 1 }\n[federation.f.trust]\naction = "watch"\n'
    made = make_bench(keys, rule='{ name = "median" }')
    for name, code in zip("abcd", (10, 12, 14, 120), strict=True):
        made.send(name, code=code)
    assert made.step() == 2
    moved = (made.federation.current.weights - GRAPH.params) / (0.1 / LIMIT)
    assert 12 - 0.1 < moved.mean() < 13  # rows become means of their three nearest: 12, 12, 12 and 51


def test_privacy_budget_ends_the_rounds_and_says_so_also_after_a_restart(make_bench: MakeBench) -> None:
    made = make_bench("quorum = 2\n" + PRIVATE)
    figures = []
    for _ in range(6):
        before = made.federation.current.header.version
        for name in "abcd":
            made.send(name, codes=codes())
        if made.step() == before:
            break
        figures.append(made.federation.current.header.figures)
    assert (
        2 <= len(figures) < 6 and {*figures[-1]} == {"epsilon", "delta", "drift_share"} and figures[-1]["epsilon"] <= 4
    )
    made.open()
    shown = made.federation.status(made.now, set("abcd"))
    assert "privacy budget spent" in shown["waiting"] and shown["privacy"]["rounds"] == len(figures)
    assert made.step() == len(figures) + 1  # nothing more


def test_many_updates_go_through_a_scratch_file_with_the_same_bits(
    make_bench: MakeBench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights = []
    for limit, folder in ((1 << 30, tmp_path / "a"), (P, tmp_path / "b")):
        monkeypatch.setattr(gathering, "MEMORY_BYTES", limit)
        folder.mkdir()
        made = make_bench(folder=folder, rule='{ name = "trimmed_mean", byzantine = 1 }')
        for k, name in enumerate("abcd"):
            made.send(name, codes=np.random.default_rng(k).integers(-LIMIT, LIMIT, P).astype(np.int8))
        assert made.step() == 2 and not list(folder.glob("*.rows"))
        weights.append(made.federation.current.weights)
    np.testing.assert_array_equal(weights[0], weights[1])


def test_held_back_rows_tell_who_makes_the_model_worse(make_bench: MakeBench, tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    base = rng.normal(size=(200, 1)).astype(np.float32)
    rows = tmp_path / "rows.npz"
    np.savez(rows, x=(base * np.array([1, -1, 0.5, 2], np.float32)))
    made = make_bench(f'quorum = 2\nheld_back = "{rows}"\n[federation.f.trust]\nlimit = 1.0\n')
    graph = TrainableGraph.load(MODEL)
    for _ in range(8):
        graph.set_params(made.federation.current.weights)
        x = np.load(rows)["x"]
        out = graph.forward(x).copy()
        graph.backward(((out - x) / len(x)).astype(np.float32))
        steps = np.repeat(made.federation.current.header.steps, graph.sizes)
        wanted = -graph.grad / np.abs(graph.grad / steps).max() / steps * 60
        for name in "abcd":
            noisy = wanted + rng.normal(0, 30, P) if name != "d" else -wanted / 2 + rng.normal(0, 30, P)
            made.send(name, codes=np.clip(np.rint(noisy), -LIMIT, LIMIT).astype(np.int8))
        made.step()
    words = " ".join(d for _, d in made.audit("trust")) + str(made.federation.trust(made.now))
    assert "made the model worse on the held-back set" in words
    assert {n for n in "abcd" if made.store.round_states.reputations("f")[n].suspicion > 0.5} <= {"d"}


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ('mixing = { name = "mix" }', r"key 'federation.f.mixing.name': no mixing 'mix'; expected one of: bucketing"),
        ('server_optimizer = { name = "adam" }', r"key 'federation.f.server_optimizer.name': no server_optimizer 'ad"),
        ('engine = "spark://x"', r"key 'federation.f.engine': expected 'local' or 'dask://HOST:PORT', got 'spark://x'"),
        ('trust = { limt = 3 }', r"unknown key 'federation.f.trust.limt'; did you mean 'limit'"),
        (
            'mode = "asynchronous"\n' + PRIVATE,
            r"key 'federation.f.privacy': needs synchronous rounds",
        ),
        (
            'mixing = { name = "bucketing" }\n' + PRIVATE,
            r"key 'federation.f.privacy': does not work with mixing",
        ),
    ],
)  # fmt: skip
def test_what_does_not_go_together_is_refused_with_file_and_key(tmp_path: Path, keys: str, words: str) -> None:
    path = tmp_path / "a.toml"
    path.write_text(f'[aggregator]\nstate = "s"\naddresses = ["x"]\n[federation.f]\n{keys}\n')
    with pytest.raises(ConfigError, match=words):
        load(path)


def test_what_a_new_federation_does_when_nothing_is_configured() -> None:
    plain = build_averaging(FederationConfig(), "t")
    assert plain.name == "trimmed_mean after nearest_neighbour_mixing" and plain.trust.action == "quarantine"
    assert plain.pipeline.minimum() == 1  # two gateways are averaged; of four one may be hostile
    own = FederationConfig(rule={"name": "median"})
    assert own.pipeline() == ({"name": "median"}, None)
    bound = FederationConfig(privacy=Privacy(clip=1.0, noise_multiplier=2.0, epsilon=8.0, delta=1e-5))
    assert bound.pipeline() == ({"name": "fedavg"}, None)
