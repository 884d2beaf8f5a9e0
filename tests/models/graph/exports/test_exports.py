# SPDX-License-Identifier: Apache-2.0
"""Networks that people use, exported with the defaults of PyTorch's exporters: each trains, or is refused in words."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner
from fedge_agent.cli.main import main
from support.counterparts import counterpart

counterpart("torch")
counterpart("onnxscript")

from support.exports import page  # noqa: E402
from support.exports.exporting import WAYS, Way, export, made  # noqa: E402
from support.exports.registry import NETWORKS, one, run, some  # noqa: E402
from support.exports.verdict import REFUSED, TRAINS, WRONG, Outcome  # noqa: E402

QUICK = [
    ("MLP, BatchNorm and Dropout", Way("torchscript", "default", "fresh")),
    ("MLP, BatchNorm and Dropout", Way("dynamo", "default", "fresh")),
    ("WDCNN", Way("torchscript", "default", "trained")),
    ("ResNet, 1-D", Way("torchscript", "default", "fresh")),
    ("LSTM", Way("torchscript", "default", "fresh")),
    ("Transformer, batch_first", Way("torchscript", "default", "fresh")),
    ("U-Net, 1-D", Way("torchscript", "dynamic", "trained")),
    ("MobileNetV2-like", Way("torchscript", "default", "trained")),
]


@pytest.mark.parametrize(("name", "way"), QUICK, ids=str)
def test_usual_networks_train_as_they_are_exported(name: str, way: Way) -> None:
    found = one((name, way))
    assert found.verdict == TRAINS, found


def test_model_show_takes_the_file_of_the_default_exporter(tmp_path: Path) -> None:
    network, path, card = NETWORKS["TCN"], tmp_path / "net.onnx", tmp_path / "card.toml"
    export(made(network, "fresh"), network, WAYS[0], path)
    channels = ", ".join(f'{{ name = "{c.name}" }}' for c in network.card().channels)
    labels = json.dumps(network.labels)
    window = "{ rate_hz = 100, length = 64, hop = 64 }"
    card.write_text(f'task = "classify"\nchannels = [{channels}]\nwindow = {window}\nlabels = {labels}\n')
    shown = CliRunner().invoke(main, ["model", "show", str(path), "--card", str(card), "--json"])
    assert shown.exit_code == 0, shown.output
    assert json.loads(shown.stdout)["input"] == list(network.sample())


@pytest.fixture(scope="module")
def outcomes() -> list[Outcome]:
    return list(run(some()))


@pytest.mark.slow
def test_no_exported_network_is_taken_and_trained_wrong(outcomes: list[Outcome]) -> None:
    wrong = [f"{o.network} ({o.way}): {o.why}" for o in outcomes if o.verdict == WRONG]
    assert not wrong, "\n".join(wrong)
    assert len({o.network for o in outcomes}) >= 40


@pytest.mark.slow
def test_every_refused_network_is_refused_in_words(outcomes: list[Outcome]) -> None:
    for o in outcomes:
        assert o.verdict != REFUSED or len(o.why.split()) > 5, o


@pytest.mark.slow
def test_page_of_exports_is_what_comes_out(outcomes: list[Outcome]) -> None:
    text = page.PAGE.read_text("utf-8")
    if page.versions_of(text) != page.VERSIONS:
        pytest.skip("the page is about other versions of PyTorch's exporters")
    for o in outcomes:
        said = page.said_of(text, o.network, o.way)
        assert o.verdict in said, f"{o.network} ({o.way}): {o.verdict}; the page says {said}; run: make exports-page"
