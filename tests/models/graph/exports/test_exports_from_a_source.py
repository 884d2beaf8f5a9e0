# SPDX-License-Identifier: Apache-2.0
"""Every exported network trains on windows that a gateway makes of a machine's readings, whole and by its head."""

from __future__ import annotations

import json
import random
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from fedge_agent.cli.main import main
from fedge_models.graph.intake import read_model
from fedge_models.model import Model
from support.counterparts import counterpart

counterpart("torch")
counterpart("onnxscript")

from support.exports import page  # noqa: E402
from support.exports.exporting import Way, export, made  # noqa: E402
from support.exports.network import Network  # noqa: E402
from support.exports.registry import NETWORKS, some  # noqa: E402
from support.exports.verdict import REFUSED  # noqa: E402

WINDOWS = 60
PAGE = page.PAGE.read_text("utf-8")
TAKEN = [(n, w) for n, w in some() if NETWORKS[n].kind != "picture" and REFUSED not in page.said_of(PAGE, n, w)]


def readings(network: Network) -> str:
    """A CSV of WINDOWS windows: noise around a level that says which label holds, and what the targets are."""
    card, noise = network.card(), random.Random(5)
    names, labels, targets = [c.name for c in card.channels], card.labels, [t.name for t in card.targets]
    columns = [*labels] if network.several else ["label"] if labels else []
    lines = [",".join(["time", *names, *columns, *targets])]
    for i in range(WINDOWS * card.window.length):
        level = i // card.window.length % 3
        values = [f"{level + noise.gauss(0, 0.5):.3f}" for _ in names]
        said = [labels[level % len(labels)]] if labels else []
        said = [str(int(level >= k)) for k in range(len(labels))] if network.several else said
        lines.append(",".join([f"{i / card.window.rate_hz:.4f}", *values, *said, *(str(level) for _ in targets)]))
    return "\n".join(lines) + "\n"


def trained(folder: Path, file: Path, patterns: str) -> float:
    """Train by the command of a gateway; the largest change of a parameter."""
    out = folder / "trained.onnx"
    given = ["--data", folder / "log.csv", "--trainable", patterns, "--epochs", 1, "--out", out, "--json"]
    done = CliRunner().invoke(main, ["train", *map(str, [file, *given])])
    assert done.exit_code == 0, done.output
    before, after = (Model(p.read_bytes(), str(p)).graph for p in (file, out))
    assert json.loads(done.stdout), done.output
    return float(np.abs(after.params - before.params).max())


@pytest.mark.slow
@pytest.mark.parametrize(("name", "way"), TAKEN, ids=str)
def test_exported_network_trains_on_windows_of_a_machines_readings(name: str, way: Way, tmp_path: Path) -> None:
    network, path, file = NETWORKS[name], tmp_path / "net.onnx", tmp_path / "model.onnx"
    net = made(network, way.state)
    export(net, network, way, path)
    file.write_bytes(read_model(path, network.card()))
    (tmp_path / "log.csv").write_text(readings(network))
    assert trained(tmp_path, file, "*") > 0
    head = network.head or [n for n, _ in net.named_parameters()][-1].rpartition(".")[0] + ".*"
    file.write_bytes(read_model(path, network.card(), head))
    assert trained(tmp_path, file, head) > 0
