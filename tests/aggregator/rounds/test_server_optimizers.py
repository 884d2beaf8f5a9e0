# SPDX-License-Identifier: Apache-2.0
"""Server optimisers against Reddi et al. 2021, algorithm 2, written out in float64, and that they are pure."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest
from fedge_aggregator.rounds.server_optimizers import OPTIMIZERS, ServerOptimizer, build, first_state
from fedge_models.errors import ConfigError

TABLES: list[dict[str, object]] = [
    {"name": "sgd", "rate": 0.5},
    {"name": "fedavgm", "rate": 0.5, "momentum": 0.8},
    {"name": "fedadagrad", "rate": 0.1, "beta1": 0.8, "tau": 0.01},
    {"name": "fedadam", "rate": 0.1, "beta1": 0.8, "beta2": 0.9, "tau": 0.01},
    {"name": "fedyogi", "rate": 0.1, "beta1": 0.8, "beta2": 0.9, "tau": 0.01},
]
everywhere = pytest.mark.parametrize("table", TABLES, ids=lambda t: t["name"])
DELTAS = np.random.default_rng(0).normal(0, 0.1, (8, 5)) * np.array([1, 1, 3, 0.01, 0])


def reference(name: str, deltas: np.ndarray) -> list[np.ndarray]:
    """Steps of all rounds."""
    steps, m, v = [], np.zeros(5), np.zeros(5)
    for delta in deltas:
        if name == "sgd":
            steps.append(0.5 * delta)
        elif name == "fedavgm":
            m = 0.8 * m + delta
            steps.append(0.5 * m)
        else:
            m = 0.8 * m + 0.2 * delta
            if name == "fedadagrad":
                v = v + delta**2
            elif name == "fedadam":
                v = 0.9 * v + 0.1 * delta**2
            else:
                v = v - 0.1 * delta**2 * np.sign(v - delta**2)
            steps.append(0.1 * m / (np.sqrt(v) + 0.01))
    return steps


def run(optimizer: ServerOptimizer, deltas: np.ndarray) -> list[np.ndarray]:
    steps, state = [], first_state(optimizer, 5)
    for delta in deltas.astype(np.float32):
        step, state = optimizer.step(state, delta)
        assert step.dtype == np.float32 and all(vector.dtype == np.float32 for vector in state)
        assert len(state) == optimizer.vectors
        steps.append(step)
    return steps


def test_all_optimizers_are_tested_and_disagree() -> None:
    assert {t["name"] for t in TABLES} == set(OPTIMIZERS)
    last = [tuple(run(build(t, "t"), DELTAS)[-1].round(5)) for t in TABLES]
    assert len(set(last)) == len(TABLES)


@everywhere
def test_steps_follow_the_paper(table: dict[str, object]) -> None:
    for got, expected in zip(run(build(table, "t"), DELTAS), reference(str(table["name"]), DELTAS), strict=True):
        np.testing.assert_allclose(got, expected, rtol=2e-5, atol=1e-8)


@everywhere
def test_nothing_that_is_given_is_changed_and_a_repeated_step_is_the_same(table: dict[str, object]) -> None:
    optimizer = build(table, "t")
    delta = DELTAS[0].astype(np.float32)
    _, state = optimizer.step(first_state(optimizer, 5), delta)
    before = [vector.copy() for vector in state]
    (first, after), (again, after_again) = optimizer.step(state, delta), optimizer.step(state, delta)
    assert (delta == DELTAS[0].astype(np.float32)).all()
    assert all((a == b).all() for a, b in zip(state, before, strict=True))
    assert (first == again).all() and all((a == b).all() for a, b in zip(after, after_again, strict=True))


def test_sgd_of_rate_one_is_the_aggregate_to_the_bit() -> None:
    delta = DELTAS[2].astype(np.float32)
    step, state = build({"name": "sgd"}, "t").step((), delta)
    assert (step == delta).all() and state == ()


@everywhere
def test_a_parameter_that_never_moves_stays(table: dict[str, object]) -> None:
    assert all(step[4] == 0 for step in run(build(table, "t"), DELTAS))


@pytest.mark.parametrize(
    ("table", "word"),
    [
        ({"name": "adam"}, "no optimizer 'adam'"),
        ({"name": "fedadam", "beta3": 0.9}, "unknown key 'optimizer.beta3'"),
        ({"name": "fedadam", "beta2": 1.0}, "beta2"),
        ({"name": "sgd", "rate": 0.0}, "rate"),
        ({"name": "fedadagrad", "beta2": 0.9}, "did you mean 'beta1'"),
    ],
)
def test_mistyped_optimizer_is_an_error(table: dict[str, object], word: str) -> None:
    with pytest.raises(ConfigError, match=word):
        build(table, "aggregator.toml")


@everywhere
def test_parameters_survive_the_configuration(table: dict[str, object]) -> None:
    fields = msgspec.to_builtins(build(table, "t"))
    assert {**fields, **{k: v for k, v in table.items() if k != "name"}} == fields
