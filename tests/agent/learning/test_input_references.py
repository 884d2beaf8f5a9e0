# SPDX-License-Identifier: Apache-2.0
"""What was learnt of inputs: from samples that may be learnt from, kept over restarts and lost samples, per machine."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from fedge_agent.durable.releases import ChainStore
from fedge_agent.learning.input_references import InputReferences, Inputs, decode, encode
from fedge_agent.samples.baseline import Plan
from fedge_agent.windows.features import feature_names
from fedge_agent.windows.summary import Summary
from fedge_models.graph.card import Card, Channel, Derived, ImageSpec, WindowSpec
from numpy.typing import NDArray

CARD = Card("anomaly", (Channel("flow"), Channel("pressure")), WindowSpec(1.0, 8, 8))
PLANS = {name: Plan(drift_block_ns=10**11, drift_baseline_ns=10**13) for name in ("a", "b")}


def _inputs(count: int, start: int = 0, level: float = 5.0, asset: str = "a") -> Inputs:
    x = level + np.random.default_rng(start).normal(size=(count, 2, 8)).astype(np.float32)
    times = (start + np.arange(count, dtype=np.int64)) * 8 * 10**9
    return Inputs(x, np.arange(count), np.full(count, asset), times)


def _both(one: Inputs, other: Inputs) -> Inputs:
    x, assets, times = (np.concatenate([one[i], other[i]]) for i in (0, 2, 3))
    return Inputs(x, np.arange(len(x)), assets, times)


def _made(folder: Path, recipe: bytes = b"r") -> InputReferences:
    return InputReferences(CARD, (2, 8), recipe, ChainStore(folder), PLANS)


def test_each_machine_has_its_own_and_a_restart_keeps_it(tmp_path: Path) -> None:
    made = _made(tmp_path)
    assert made.of == {} and made.is_due(20) and not made.is_due(19)
    made.learn(200, _both(_inputs(100), _inputs(100, level=50.0, asset="b")))
    assert made.of["a"].high[0, 0] < 10 < made.of["b"].low[0, 0]
    assert not made.is_due(209) and made.is_due(220)
    again = _made(tmp_path)
    assert again.of.keys() == {"a", "b"}
    for name, found in again.of.items():
        assert encode({name: found}, b"") == encode({name: made.of[name]}, b"")
    assert _made(tmp_path, b"made otherwise").of == {}


def test_what_was_deleted_since_still_counts_and_what_is_old_counts_once(tmp_path: Path) -> None:
    made = _made(tmp_path)
    made.learn(100, _inputs(100))
    first = made.of["a"]
    made.learn(100, _inputs(100))  # nothing new
    assert encode({"a": made.of["a"]}, b"") == encode({"a": first}, b"")
    long = _inputs(400)  # with blocks as long as they should be
    made.learn(400, long)
    first = made.of["a"]
    made.learn(500, _inputs(100, start=400, level=9.0))  # the first are deleted
    second = made.of["a"]
    assert second.low[0, 0] == first.low[0, 0] and second.high[0, 0] > 8 and second.covered_ns > first.covered_ns


def test_too_few_samples_give_none(tmp_path: Path) -> None:
    made = _made(tmp_path)
    made.learn(20, _inputs(20))
    assert made.of == {}


@pytest.mark.parametrize("harm", [b"", b"\x80", b"\x82\x00\x00", None])
def test_a_damaged_file_gives_none(tmp_path: Path, harm: bytes | None) -> None:
    assert decode(harm, b"r", 2) == {}
    made = _made(tmp_path)
    made.learn(100, _inputs(100))
    data = encode(made.of, made._recipe)
    assert decode(data, made._recipe, 3) == {} and decode(data[:-9], made._recipe, 2) == {}
    (tmp_path / "inputs.cbor").write_bytes(data)  # without its digest
    assert _made(tmp_path).of == {} and list(tmp_path.glob("inputs.cbor.*"))


def _names(card: Card, shape: tuple[int, ...]) -> list[str]:
    return [str(column) for column in Summary(card, shape).columns]


def test_columns_have_the_names_of_channels_and_features() -> None:
    assert feature_names(("mean", "bands:3", "rms")) == ("mean", "bands:3 1", "bands:3 2", "bands:3 3", "rms")
    featured = Card("anomaly", CARD.channels, CARD.window, ("mean", "std"))
    assert _names(featured, (4,)) == ["flow (mean)", "flow (std)", "pressure (mean)", "pressure (std)"]
    derived = Card("anomaly", CARD.channels, CARD.window, derive={"power": Derived("flow * pressure")})
    assert _names(derived, (3, 8)) == ["flow", "pressure", "power of flow, pressure"]
    table = Card("classify", CARD.channels, WindowSpec(1.0, 1, 1), labels=("ok", "bad"), normal="ok")
    assert _names(table, (2,)) == ["flow", "pressure"]
    where, spread = Summary(table, (2,))(np.array([[[1.0], [2.0]]]))  # as a window has it
    assert where.tolist() == [[1.0, 2.0]] and spread is None


@pytest.mark.parametrize(("colour", "planes"), [("grey", 1), ("rgb", 3)])
def test_of_pictures_brightness_contrast_and_sharpness_are_watched(colour: str, planes: int) -> None:
    image = ImageSpec(8, 8, colour)  # type: ignore[arg-type]
    card = Card("classify", (Channel("camera"),), WindowSpec(1.0, 1, 1), labels=("ok", "bad"), image=image)
    summary = Summary(card, (planes, 8, 8))
    assert len(summary.columns) == planes + 2 and str(summary.columns[-2]) == "camera (contrast)"
    flat = np.full((1, planes, 8, 8), 51, np.uint8)
    striped: NDArray[np.uint8] = flat.copy()
    striped[..., ::2] = 255
    where, _ = summary(np.concatenate([flat, striped]))
    assert where[0] == pytest.approx([0.2] * planes + [0, 0], abs=1e-6) and (where[1, -2:] > 0.3).all()
