# SPDX-License-Identifier: Apache-2.0
"""A gateway says what the bounds of its estimates hold for, and other sites' error makes them hold for a new unit."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import pytest
from fedge_agent.cli.status_lines import _model
from fedge_agent.config.schema import ModelConfig, Training
from fedge_agent.durable.spool import Spool
from fedge_agent.federation.participant import Participant
from fedge_agent.health import _sureness
from fedge_agent.learning.intervals import NEW, SAME
from fedge_agent.samples.sample_table import Sample
from fedge_agent.samples.store import SampleStore
from fedge_models.graph import zoo
from fedge_models.graph.card import Card, Channel, Target, WindowSpec
from fedge_models.messages.release import Release, header_hash
from support.at_end import AtEnd
from support.made_releases import make_release

CARD = Card("regress", (Channel("a"),), WindowSpec(1, 4, 4), ("mean",), targets=(Target("wear", "mm", scale=1.0),))
HOUR = 3600 * 10**9


def gateway(at_end: AtEnd, folder: Path, runs: int, windows: int = 30) -> Participant:
    """A gateway that has seen so many runs of a machine; of each another wear."""
    (folder / "m.onnx").write_bytes(zoo.mlp(CARD, 1, (4,)).SerializeToString())
    samples = at_end(SampleStore(folder / "samples.sqlite", {"m": 10_000}))
    spool = at_end(Spool(folder / "spool.sqlite"))
    rng = np.random.default_rng(0)
    for run, off in enumerate(rng.normal(0, 1, runs)):
        for k, a in enumerate(rng.normal(0, 1, windows)):
            wear, end = float(a + off + rng.normal(0, 0.05)), run * HOUR + k * 4 * 10**9
            held = k % 5 == 4  # what blocks of time hold back while there is no whole unit to
            samples.put(Sample("m", "press", end, np.array([a], np.float32), wear, held, 3 * 10**9))
    samples.flush()
    config = ModelConfig(file=folder / "m.onnx", training=Training(min_samples=10))
    made = Participant("m", config, folder / "models", samples, spool, None, None, lambda *_: None, lambda _: False)
    made.restore()
    made.model.rescale()
    return made


def said(made: Participant) -> tuple[str, str]:
    """What a decision says that its bounds hold for, and what `status` does, in words."""
    assert made.serving is not None
    decision = made.serving.decide(np.array([0.5], np.float32))
    bounds_for = made.serving.bounds_hold_for("press")
    assert bool(decision.bounds) == bool(bounds_for)
    return bounds_for, _model(made.status()).text


def test_with_whole_runs_held_back_bounds_hold_for_a_new_run(at_end: AtEnd, tmp_path: Path) -> None:
    made = gateway(at_end, tmp_path, 12)
    bounds_for, text = said(made)
    entry = made.status()["intervals"]
    assert "samples 360 with a target, judged by" in text  # not each of 360 values
    assert bounds_for == NEW and entry["units"] == made.status()["judged_by"]["held"] >= 2
    assert f"bounds hold 90 % of a new run, by {entry['units']} held-back runs (wear -" in text
    assert made.serving is not None and made.serving.bounds_hold_for("another press") == SAME
    assert msgspec.json.decode(msgspec.json.encode(entry)) == entry


def test_an_update_reports_the_error_on_held_back_runs(at_end: AtEnd, tmp_path: Path) -> None:
    made = gateway(at_end, tmp_path, 12)
    graph, known = made.graph, made.model.intervals
    assert graph is not None and known is not None
    release = make_release(graph.params, np.full(len(graph.sizes), 0.01, np.float32), 3, made.model._model.digest)
    trained = made.model.train(release, made.model.usable(held=False), np.random.default_rng(0))
    assert trained.before["unit_error"] == known.errors["wear"] > 0 and "unit_error" not in trained.after


def test_with_too_few_windows_of_one_run_there_are_no_bounds(at_end: AtEnd, tmp_path: Path) -> None:
    bounds_for, text = said(gateway(at_end, tmp_path, 1))
    assert bounds_for == "" and "no bounds: too few held-back samples with a label, and no held-back run" in text


def test_with_blocks_of_a_long_run_bounds_hold_for_the_same_until_others_report(at_end: AtEnd, tmp_path: Path) -> None:
    made = gateway(at_end, tmp_path, 1, 300)
    bounds_for, text = said(made)
    assert bounds_for == SAME and "bounds hold 90 % of the same runs only (wear -" in text
    same = made.status()["intervals"]["margins"]["wear"]
    graph = made.graph
    assert graph is not None
    for nodes, expected in ((2.0, SAME), (3.0, NEW)):
        release = make_release(graph.params, np.full(len(graph.sizes), 0.01, np.float32), 3, made.model._model.digest)
        header = msgspec.structs.replace(release.header, figures={"base_unit_error": 2.0, "nodes": nodes})
        made.model._model.weights.take(Release(header, header_hash(header), release.weights))
        made.model.serve()
        assert said(made)[0] == expected, nodes
    wide = made.status()["intervals"]
    assert wide["other_sites"] and wide["units"] == 0 and wide["margins"]["wear"][1] == pytest.approx(5.84, rel=0.01)
    assert (
        wide["margins"]["wear"][0] < same[0] and "of a new run, by what other sites report of theirs" in said(made)[1]
    )
    gauges = {name: values for name, _, values in _sureness({"m": made.status()})}
    assert gauges["interval_units"] == {"m": 0} and gauges["interval_new_unit"] == {"m": 1.0}
