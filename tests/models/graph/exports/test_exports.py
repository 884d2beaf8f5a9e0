# SPDX-License-Identifier: Apache-2.0
"""Networks that people use, exported with the defaults of PyTorch's exporters: each trains, or is refused in words."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest
from click.testing import CliRunner
from fedge_agent.cli.main import main
from support.counterparts import counterpart

counterpart("torch")
counterpart("onnxscript")

from support.exports import page, parts, torch_tables  # noqa: E402
from support.exports.exporting import WAYS, Way, export, made  # noqa: E402
from support.exports.parts import REFUSED, TRAINS, WRONG  # noqa: E402
from support.exports.registry import GROUPS, NETWORKS, cases, one, run, some  # noqa: E402
from support.exports.verdict import Outcome  # noqa: E402

ANEW = "run: make exports-page"

QUICK = [
    ("MLP, BatchNorm and Dropout", Way("torchscript", "default", "fresh")),
    ("MLP, BatchNorm and Dropout", Way("dynamo", "default", "fresh")),
    ("WDCNN", Way("torchscript", "default", "trained")),
    ("ResNet, 1-D", Way("torchscript", "default", "fresh")),
    ("LSTM", Way("torchscript", "default", "fresh")),
    ("LSTM", Way("dynamo", "dynamic", "trained")),
    ("Transformer, batch_first", Way("torchscript", "default", "fresh")),
    ("U-Net, 1-D", Way("torchscript", "dynamic", "trained")),
    ("MobileNetV2-like", Way("torchscript", "default", "trained")),
]


@pytest.mark.parametrize(("name", "way"), QUICK, ids=str)
def test_usual_networks_train_as_they_are_exported(name: str, way: Way) -> None:
    found = one((name, way))
    assert (found.verdict, found.head) == (TRAINS, TRAINS), found
    assert found.free == (way.batch == "dynamic"), found


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


def test_page_lists_every_network_and_counts_every_file() -> None:
    text, tried = parts.PAGE.read_text("utf-8"), cases()
    for title, networks in GROUPS.items():
        assert [row[0] for row in parts.rows(text, torch_tables.heading(title))] == list(networks), ANEW
    cells = {(n, *w[:2]): torch_tables.said_of(text, n, w) for n in NETWORKS for w in WAYS}
    assert {column for column, said in cells.items() if said} == {(n, *w[:2]) for n, w in tried}, ANEW
    counts = {row[0]: int(row[1]) for row in parts.rows(text, torch_tables.COUNTS)}
    assert counts == {**Counter(str(w) for _, w in tried), "all": len(tried)}, ANEW


@pytest.fixture(scope="module")
def outcomes() -> list[Outcome]:
    return list(run(some()))


@pytest.mark.slow
def test_no_exported_network_is_taken_and_trained_wrong(outcomes: list[Outcome]) -> None:
    wrong = [f"{o.network} ({o.way}): {o.why}" for o in outcomes if o.verdict == WRONG]
    assert not wrong, "\n".join(wrong)
    assert {o.network for o in outcomes} == set(NETWORKS)
    assert len(NETWORKS) >= 40


@pytest.mark.slow
def test_every_refused_network_is_refused_in_words(outcomes: list[Outcome]) -> None:
    for o in outcomes:
        assert o.verdict != REFUSED or len(o.why.split()) > 5, o


@pytest.mark.slow
def test_only_files_with_a_dynamic_batch_leave_it_free(outcomes: list[Outcome]) -> None:
    other = [f"{o.network} ({o.way})" for o in outcomes if o.free != (o.way.batch == "dynamic")]
    assert not other, other


@pytest.mark.slow
def test_page_of_exports_is_what_comes_out(outcomes: list[Outcome]) -> None:
    text = parts.PAGE.read_text("utf-8")
    for o in outcomes:
        said = (torch_tables.said_of(text, o.network, o.way), torch_tables.head_said_of(text, o.network, o.way))
        about = f"the page is about {parts.versions(text, torch_tables.PART)}; here: {page.torch_versions()}"
        assert said == (o.verdict, o.head), f"{o}; the page says {said}; {about}; {ANEW}"
