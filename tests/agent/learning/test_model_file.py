# SPDX-License-Identifier: Apache-2.0
"""A file that a gateway is configured with is taken in as by the commands, and stays on disk as it is."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import NamedTuple

import numpy as np
import onnx
import pytest
from click.testing import CliRunner
from fedge_agent.cli.main import main
from fedge_agent.cli.status_lines import _model as model_line
from fedge_agent.config import schema
from fedge_agent.durable.spool import Spool
from fedge_agent.federation.participant import Participant
from fedge_agent.learning.model_file import configured_card, configured_model
from fedge_agent.samples.store import SampleStore
from fedge_models.errors import ConfigError, ModelError
from fedge_models.graph.card import Card, Channel, WindowSpec, write_card
from fedge_models.model import load
from support.at_end import AtEnd
from support.graphs import N, ints, normal, small

CARD = Card("anomaly", (Channel("a"), Channel("b")), WindowSpec(1, 8, 4))
TOML = """
task = "anomaly"
channels = [{ name = "a" }, { name = "b" }]
window = { rate_hz = 1, length = 8, hop = 4 }
"""
CONFIG = """
[agent]
name = "gw"
state = "state"
[source.log]
type = "files"
path = "log.csv"
time_column = "time"
[model.m]
file = "m.onnx"
{keys}
[asset.pump]
model = "m"
channels.a = {{ source = "log", tag = "a" }}
channels.b = {{ source = "log", tag = "b" }}
[output.log]
type = "log"
"""


def exported() -> onnx.ModelProto:
    """An untrained autoencoder as exporters write it: (time, channels), a batch of one, one tensor of zeros twice."""
    nodes = [
        N("Reshape", ["x", "one"], ["flat"]),
        N("Gemm", ["flat", "encode.weight", "zeros"], ["code"]),
        N("Tanh", ["code"], ["h"]),
        N("Gemm", ["h", "decode.weight", "zeros"], ["out"]),
        N("Reshape", ["out", "back"], ["y"]),
    ]
    tensors = {"encode.weight": normal(16, 16), "decode.weight": normal(16, 16), "zeros": np.zeros(16, np.float32)}
    shapes = {"one": ints(1, 16), "back": ints(1, 8, 2)}
    model = small(nodes, {**tensors, **shapes}, (8, 2), (8, 2))
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.shape.dim[0].dim_value = 1
    del model.metadata_props[:]
    return model


class Site(NamedTuple):
    """A gateway's configuration, and the file that it names."""

    config: Path
    file: Path

    @property
    def model(self) -> schema.ModelConfig:
        return schema.load(self.config).model["m"]


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Site:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "m.onnx").write_bytes(exported().SerializeToString())
    (tmp_path / "card.toml").write_text(TOML)
    (tmp_path / "gw.toml").write_text(CONFIG.format(keys='card = "card.toml"'))
    rows = "".join(f"2026-03-02T06:{i // 60:02}:{i % 60:02}Z,{i % 7},{i % 5}\n" for i in range(200))
    (tmp_path / "log.csv").write_text(f"time,a,b\n{rows}")
    return Site(tmp_path / "gw.toml", tmp_path / "m.onnx")


@pytest.fixture
def part(site: Site, at_end: AtEnd, tmp_path: Path) -> Participant:
    samples = at_end(SampleStore(tmp_path / "samples.sqlite", {"m": 1000}))
    spool = at_end(Spool(tmp_path / "spool.sqlite"))
    folder = tmp_path / "models"
    return Participant("m", site.model, folder, samples, spool, None, None, lambda *_: None, lambda _: False)


def test_gateway_sees_the_graph_that_the_commands_see(site: Site, part: Participant) -> None:
    before = site.file.read_bytes()
    part.restore()
    shown = load(site.file, site.file.with_name("card.toml"))
    assert part.graph is not None and part.graph.input_shape == (2, 8)
    assert part.graph.layout == shown.graph.layout and len(part.graph.layout) == 4  # each layer has its own bias
    x = normal(3, 2, 8)
    np.testing.assert_array_equal(part.graph.forward(x), shown.graph.forward(x))
    assert configured_model(site.model) == shown.to_bytes() and site.file.read_bytes() == before


def test_what_was_changed_is_logged_once_and_in_the_status(part: Participant, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        part.restore()
        part.step()
    said = [r.getMessage() for r in caplog.records if "m.onnx: " in r.getMessage()]
    changes = part.status()["file_changes"]
    assert [line.partition("m.onnx: ")[2] for line in said] == changes
    assert {c.partition(":")[0] for c in changes} >= {"layout", "batch", "untied"}
    assert f"{len(changes)} changes made in its file" in model_line(part.status()).text


def test_check_takes_the_same_file_and_says_what_was_changed(site: Site) -> None:
    done = CliRunner().invoke(main, ["check", "--config", str(site.config)])
    assert done.exit_code == 0, done.output
    assert "model m: untied: zeros was one tensor for 2 Gemm" in done.output


def test_card_within_the_file_is_enough(site: Site, tmp_path: Path) -> None:
    model = exported()
    write_card(model, CARD)
    site.file.write_bytes(model.SerializeToString())
    site.config.write_text(CONFIG.format(keys=""))
    assert configured_card(site.model) == CARD and configured_model(site.model) is not None


def test_file_without_a_card_says_where_one_may_be(site: Site) -> None:
    site.config.write_text(CONFIG.format(keys=""))
    with pytest.raises(ModelError, match=r"no model card; .* card in \[model\.X\] of a gateway"):
        configured_model(site.model)


def test_card_without_a_file_is_refused(site: Site) -> None:
    site.config.write_text(CONFIG.format(keys='card = "card.toml"').replace('file = "m.onnx"\n', ""))
    with pytest.raises(ConfigError, match=r"key 'model\.m\.card': it is the card of a file; set file"):
        schema.load(site.config)


def test_weights_beside_the_file_are_read(site: Site, part: Participant) -> None:
    inside = configured_model(site.model)
    model = onnx.load(site.file)
    onnx.save_model(model, str(site.file), save_as_external_data=True, location="m.data", size_threshold=0)
    part.restore()
    assert configured_model(site.model) == inside and part.graph is not None
