# SPDX-License-Identifier: Apache-2.0
"""A federation on one's own arrays and files: better than a site alone, and clear about what does not fit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import fedge_fleet
import msgspec
import numpy as np
import pytest
from fedge_models.errors import ConfigError, DataError
from fedge_models.graph import zoo
from fedge_models.graph.card import Card, Channel, WindowSpec
from fedge_models.graph.trainable import TrainableGraph
from fedge_models.model import starter
from fedge_models.training.config import TrainingConfig

CARD = Card("classify", (Channel("a"), Channel("b")), WindowSpec(1.0, 4, 4), ("mean",), labels=("low", "high"))
MODEL = zoo.mlp(CARD, 2, (8,)).SerializeToString()


def site(seed: int, rows: int = 100) -> fedge_fleet.Site:
    x = np.random.default_rng(seed).standard_normal((rows, 2)).astype(np.float32)
    return fedge_fleet.Site(x, (x.sum(axis=1) > 0).astype(np.int64))


def csv(path: Path, seed: int, rows: int = 1200) -> Path:
    values = np.random.default_rng(seed).standard_normal((rows // 4, 2)).repeat(4, axis=0)
    lines = [f"{a:.4f},{b:.4f},{'high' if a + b > 0 else 'low'}" for a, b in values]
    path.write_text("a,b,label\n" + "\n".join(lines) + "\n")
    return path


def test_arrays_learn_together_and_the_weights_are_returned() -> None:
    found = fedge_fleet.simulate_federation({f"s{k}": site(k) for k in range(4)}, MODEL, rounds=12)
    assert found.metric == "macro_f1" and set(found.federated) == set(found.alone) == set(found.central)
    assert np.mean(list(found.federated.values())) > 0.85
    graph = TrainableGraph.load(MODEL)
    start = graph.params.copy()
    graph.set_params(found.weights)
    assert not np.array_equal(graph.params, start)


def test_the_same_seed_gives_the_same_weights() -> None:
    sites = {f"s{k}": site(k) for k in range(2)}
    a, b, c = (fedge_fleet.simulate_federation(sites, MODEL, rounds=2, seed=s).weights for s in (1, 1, 2))
    assert np.array_equal(a, b) and not np.array_equal(a, c)


def test_files_and_a_robust_rule(tmp_path: Path) -> None:
    (tmp_path / "net.onnx").write_bytes(MODEL)
    sites = {f"s{k}": csv(tmp_path / f"{k}.csv", k) for k in range(3)}
    found = fedge_fleet.simulate_federation(sites, tmp_path / "net.onnx", rounds=4, rule={"name": "median"})
    assert set(found.federated) == set(sites)


def test_arrays_mean_the_same_as_a_table_where_the_card_gives_a_centre(tmp_path: Path) -> None:
    channels = (Channel("heat", "K", centre=300.0, scale=2.0), Channel("b"))
    model = starter(Card("classify", channels, WindowSpec(1, 1, 1), labels=("low", "high"))).to_bytes()
    arrays: dict[str, fedge_fleet.Site] = {}
    tables: dict[str, Path] = {}
    for k in range(2):
        x = np.random.default_rng(k).normal((300, 5), (2, 1), (300, 2)).astype(np.float32)
        y, test = (x[:, 0] > 300).astype(np.int64), np.arange(300) >= 240
        arrays[f"s{k}"] = fedge_fleet.Site(x, y, test)
        lines = [f"{a!r},{b!r},{c},{int(t)}" for a, b, c, t in zip(*x.T.tolist(), y, test, strict=True)]
        tables[f"s{k}"] = tmp_path / f"{k}.csv"
        tables[f"s{k}"].write_text("\n".join(["heat,b,label,test", *lines]) + "\n")
    found, same = (fedge_fleet.simulate_federation(s, model, rounds=3) for s in (arrays, tables))
    np.testing.assert_array_equal(found.weights, same.weights)
    assert min(found.central.values()) > 0.9


def test_rows_of_a_table_and_measured_ones_are_taken_and_rows_without_a_number_counted() -> None:
    card = Card("classify", (Channel("a"), Channel("b")), WindowSpec(1, 1, 1), labels=("low", "high"))
    with_ratio = msgspec.structs.replace(card, derive={"r": "a / b"})
    for made in (card, with_ratio):
        sites = {f"s{k}": site(k) for k in range(2)}
        np.asarray(sites["s0"].x)[:3, 1] = 0 if made.derive else np.nan
        found = fedge_fleet.simulate_federation(sites, starter(made).to_bytes(), rounds=1)
        assert found.left_out == {"s0": 3, "s1": 0} and np.isfinite(list(found.central.values())).all()


@pytest.mark.parametrize(
    ("sites", "keys", "error", "words"),
    [
        ({"a": site(0)}, {}, DataError, r"gives 1 site \(a\): a federation has two or more"),
        ({"a": site(0), "b": site(1)}, {"rule": {"name": "medan"}}, ConfigError, "medan"),
        ({"a": site(0), "b": site(1)}, {"rul": {}}, ConfigError, "rul"),
        ({"a": site(0), "b": site(1)}, {"training": {"epoch": 2}}, ConfigError, "training.epoch.*epochs"),
        ({"a": site(0), "b": site(1)}, {"training": {"epochs": -1}}, ConfigError, "training.epochs"),
        ({"a": site(0), "b": site(1)}, {"training": 2}, ConfigError, "expected a TrainingConfig or a dict such as"),
        ({"a": site(0), "b": fedge_fleet.Site(np.zeros((9, 3)), np.zeros(9))}, {}, DataError, "shape"),
        ({"a": site(0), "b": fedge_fleet.Site(np.zeros((9, 2)), np.zeros(8))}, {}, DataError, "has 8 rows, 'x' has 9"),
        ({"a": site(0), "b": fedge_fleet.Site(np.zeros((9, 2)), np.full(9, 7))}, {}, DataError, "row 0: 7; .*1 high"),
        ({"a": site(0), "b": fedge_fleet.Site(np.zeros((9, 2)), np.full(9, 0.5))}, {}, DataError, "row 0: 0.5"),
        ({"a": site(0), "b": fedge_fleet.Site(np.zeros((9, 2)), np.eye(2)[[0] * 9])}, {}, DataError, "argmax"),
        ({"a": site(0), "b": fedge_fleet.Site(np.full((9, 2), "1"), np.zeros(9))}, {}, DataError, "'x' .* of <U1"),
    ],
)
def test_what_does_not_fit_is_named(
    sites: dict[str, fedge_fleet.Site], keys: dict[str, Any], error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        fedge_fleet.simulate_federation(sites, MODEL, rounds=1, **keys)


def of_one_class(seed: int, label: int) -> fedge_fleet.Site:
    rows = np.random.default_rng(seed).standard_normal((100, 2)).astype(np.float32)
    return fedge_fleet.Site(rows + (2 if label else -2), np.full(100, label))


def test_sites_of_one_class_each_tell_nothing_of_joining() -> None:
    """Alone, each names its one class: that all rows together are then right says nothing of the sites."""
    sites = {f"s{k}": of_one_class(k, k % 2) for k in range(3)}
    found = fedge_fleet.simulate_federation(sites, MODEL, rounds=2, seeds=2)
    assert found.verdict.sentences[0].answer.startswith("These data cannot tell: at no site")
    assert found.verdict.rule is None and set(found.verdict.unknown) == set(sites)
    assert np.isnan([found.study.alone(), found.study.score("default")]).all() and "1.000" not in str(found)


@pytest.mark.parametrize("name", ["Werk 1", "M\u00fcller", "a\nnote: b\x1b[31m", "a" * 65, "", 7])
def test_a_name_that_no_gateway_may_have_is_refused_with_one_that_it_may(name: Any) -> None:
    with pytest.raises(DataError, match="not a name that a gateway may have") as refused:
        fedge_fleet.simulate_federation({name: site(0), "b": site(1)}, MODEL, rounds=1)
    text = str(refused.value)
    assert ascii(name) in text and text.isprintable() and text.isascii()
    better = text.rpartition("'")[0].rpartition("'")[2]
    assert fedge_fleet.simulate_federation({better: site(0), "b": site(1)}, MODEL, rounds=1).alone


def test_values_far_from_zero_with_small_changes_are_learnt_from_as_gateways_do() -> None:
    """A counter, or a time: float32 would hold none of its changes."""
    near = {f"s{i}": site(i) for i in range(2)}
    far = {name: fedge_fleet.Site(np.asarray(s.x, np.float64) + 2.0**31, s.y, s.test) for name, s in near.items()}
    found = [fedge_fleet.simulate_federation(sites, MODEL, rounds=2).federated for sites in (near, far)]
    assert found[0] == pytest.approx(found[1], abs=0.02)


def test_public_names_are_there() -> None:
    assert all(hasattr(fedge_fleet, name) for name in fedge_fleet.__all__)
    assert not hasattr(fedge_fleet, "other")


SEVERAL = Card("multilabel", (Channel("a"), Channel("b")), WindowSpec(1.0, 1, 1), labels=("worn", "leak"))


def faults(seed: int, rows: int = 200) -> fedge_fleet.Site:
    rng = np.random.default_rng(seed)
    y = (rng.random((rows, 2)) < 0.4).astype(np.float32)
    return fedge_fleet.Site((y * 3 + rng.normal(0, 0.6, y.shape)).astype(np.float32)[..., None], y)


def test_labels_that_may_hold_together_are_learnt_together() -> None:
    model = zoo.mlp(SEVERAL, [2, 1], (8,)).SerializeToString()
    sites = {f"s{k}": faults(k) for k in range(4)}
    how: dict[str, Any] = {"rounds": 12, "training": TrainingConfig(learning_rate=0.02)}
    found = fedge_fleet.simulate_federation(sites, model, **how)
    same = fedge_fleet.simulate_federation(sites, model, rounds=12, training={"learning_rate": 0.02})
    assert same.federated == found.federated
    assert found.metric == "macro_f1" and min(found.federated.values()) > 0.9
    hostile = fedge_fleet.simulate_federation(
        sites, model, **how, hostile=0.25, attack={"name": "label_flip"}, rule={"name": "median"}
    )
    assert min(hostile.federated.values()) > 0.8
    with pytest.raises(DataError, match="site 's1': y has the value 2, expected 0 or 1"):
        fedge_fleet.simulate_federation({**sites, "s1": fedge_fleet.Site(sites["s1"].x, np.full((200, 2), 2))}, model)
    with pytest.raises(ConfigError, match="this set has labels of which several may hold, no classes"):
        fedge_fleet.simulate_federation(sites, model, rounds=1, hostile=0.25, attack={"name": "backdoor"})
