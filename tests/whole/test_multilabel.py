# SPDX-License-Identifier: Apache-2.0
"""Labels that may hold together, through the real agent: from a file's columns to events that name all of them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fedge_models import Model, TrainingConfig
from fedge_models.graph import zoo
from fedge_models.graph.card import Card, Channel, WindowSpec
from support.gateway import JOURNAL, Gateway

LABELS = ("worn", "leak")
CARD = Card("multilabel", (Channel("current"), Channel("pressure")), WindowSpec(40, 1, 1), labels=LABELS)
STATES = ((0, 0), (1, 0), (1, 1), (0, 0), (0, 1))  # 40 rows of each, again and again
CONFIG = """
[source.csv]
type = "files"
path = "data.csv"
rate_hz = 40.0
at_end = "repeat"
[model.m]
file = "model.onnx"
training = { min_samples = 400 }
[template.press]
model = "m"
channels.current = { source = "csv", tag = "current" }
channels.pressure = { source = "csv", tag = "pressure" }
when = { for_windows = 2, min_gap = "0s" }
[asset.by-name]
template = "press"
label = { source = "csv", tag = "label", map = { E12 = "worn", E13 = "leak" } }
[asset.by-bit]
template = "press"
targets.worn = { source = "csv", tag = "worn" }
targets.leak = { source = "csv", tag = "leak" }
"""


def recording() -> tuple[np.ndarray, np.ndarray]:
    y = np.repeat(np.array(STATES * 4), 40, axis=0)
    x = np.array([10, 200]) + y * np.array([4, -60]) + np.random.default_rng(0).normal(0, (0.5, 8), y.shape)
    return x.astype(np.float32), y


@pytest.fixture
def gateway(tmp_path: Path) -> Iterator[Gateway]:
    (x, y), words = recording(), {(0, 0): "normal", (1, 0): "E12", (1, 1): "E12;E13", (0, 1): "E13"}
    rows = [f"{a:.3f},{b:.3f},{w},{v},{words[w, v]}" for (a, b), (w, v) in zip(x, y.tolist(), strict=True)]
    (tmp_path / "data.csv").write_text("\n".join(["current,pressure,worn,leak,label", *rows]) + "\n")
    model = Model(zoo.mlp(CARD, [2, 1], (8,)).SerializeToString())
    model.train(x, y, TrainingConfig(epochs=30, learning_rate=0.01))
    made = Gateway(tmp_path, "by-name", CONFIG + JOURNAL)
    model.save(tmp_path / "model.onnx")
    yield made
    assert made.end() in ([], [0])


def raised_by_both(gateway: Gateway) -> list[dict[str, Any]]:
    return [e for e in gateway.events() if e["state"] == "raised" and e["label"] == "worn;leak"]


def test_gateway_learns_and_names_several_labels_of_one_window(gateway: Gateway) -> None:
    checked = gateway.call("check")
    assert checked.exit_code == 0, checked.output
    gateway.start("gw")
    gateway.wait(lambda: any("worn" in e["label"] for e in gateway.events()), "an event that names wear")
    gateway.wait(lambda: bool(raised_by_both(gateway)), "a leak that joins it")
    raised = raised_by_both(gateway)[0]
    assert set(raised["values"]) == set(LABELS)
    assert min(raised["values"].values()) > 0.5 and raised["threshold"] == 1.0 < raised["score"] <= 2.0
    gateway.wait(lambda: any(e["state"] == "cleared" for e in gateway.events()), "its end")
    stored = gateway.status("gw")["models"]["m"]["samples"]
    assert {"normal", "worn", "worn;leak"} <= set(stored) <= {"normal", "worn", "leak", "worn;leak", "-"}
    assert not gateway.status("gw")["assets"]["by-name"]["tag_labels"]["unknown"]
    shown = gateway.call("status").output
    assert "of label worn;leak" in shown and "PROBLEM" not in shown
    wrong = gateway.call("label", "by-bit", "worn;lek", "--at", "1795000000")
    assert (
        wrong.exit_code == 1 and "expected normal, or one or more of worn, leak with ';' between them" in wrong.output
    )
    decisions = gateway.page("gw", "/decisions")["by-bit"]
    known = [d for d in decisions if d["actual"] is not None]
    right = [
        d
        for d in known
        if d["label"] == (";".join(n for n, v in zip(LABELS, d["actual"], strict=True) if v) or "normal")
    ]
    assert len(right) > 0.9 * len(known) > 0, json.dumps(decisions[-5:])
