# SPDX-License-Identifier: Apache-2.0
"""Keys that are right one by one and can never be fulfilled together."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest
from fedge_agent.config import schema
from fedge_agent.config.schema import AssetConfig, ModelConfig, TagConfig, Training, When, WindowConfig
from fedge_agent.machines.enough import impossible, trained_share, training_problem
from fedge_agent.samples.split import split
from fedge_models.errors import ConfigError
from fedge_models.graph.card import Card, Channel, WindowSpec
from fedge_models.system.settings import Seconds

CARD = Card("anomaly", (Channel("a"),), WindowSpec(1.0, 5, 1), ("mean", "std"))
WAVE = Card("anomaly", (Channel("a"),), WindowSpec(1000.0, 1000, 1000))
HEAD = '[agent]\nname = "gw"\nstate = "state"\n[source.f]\ntype = "files"\npath = "f.csv"\n[model.m]\nfile = "m.onnx"\n'
ASSET = '[asset.a]\nmodel = "m"\nchannels.a = { source = "f", tag = "a" }\n'


def asset(**keys: Any) -> AssetConfig:
    return AssetConfig(model="m", channels={"a": TagConfig(source="f", tag="a")}, **keys)


def problems(model: ModelConfig | None = None, card: Card = CARD, assets: int = 1, **keys: Any) -> list[str]:
    shape = (2,) if card.features else (1, card.window.length)
    made = {f"a{i}": asset(**keys) for i in range(assets)}
    return impossible("m", model or ModelConfig(), made, card, shape)


def load(tmp_path: Path, model: str = "", when: str = "") -> schema.Config:
    path = tmp_path / "agent.toml"
    path.write_text(HEAD + model + "\n" + ASSET + when + "\n")
    return schema.load(path)


def test_the_defaults_can_be_fulfilled() -> None:
    assert problems() == [] and problems(card=WAVE) == [] and problems(assets=50) == []


def test_fewer_stored_samples_than_a_model_begins_with_are_refused_with_the_key(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"model\.m\.max_samples': got 10, but training\.min_samples is 64"):
        load(tmp_path, "max_samples = 10")
    assert load(tmp_path, "max_samples = 64").model["m"].max_samples == 64
    assert load(tmp_path, "max_samples = 10\ntraining = { min_samples = 10 }").model["m"].max_samples == 10


def test_memory_for_fewer_samples_than_a_model_begins_with_is_refused() -> None:
    (text,) = problems(ModelConfig(max_sample_bytes=4000 * 63), WAVE)
    assert "only 63 samples of 4,000 bytes fit max_sample_bytes" in text and "set it to 256,000 or more" in text
    assert problems(ModelConfig(max_sample_bytes=256_000), WAVE) == []


@pytest.mark.parametrize("task", ["anomaly", "classify"])
def test_windows_that_are_deleted_before_they_are_learnt_from_are_refused(task: str) -> None:
    card = CARD if task == "anomaly" else msgspec.structs.replace(CARD, task=task, labels=("good", "worn"))
    found = problems(card=card, learn_after=Seconds(1000 * 86400))
    if task == "classify":  # which learns from labels
        assert found == []
        return
    assert "learnt from after 1000d (learn_after), but only about 8h" in found[0] and "would never decide" in found[0]
    assert problems(learn_after=Seconds(7 * 3600)) == []
    assert problems(learn_after=Seconds(9 * 3600)) != []


def test_the_advised_learn_after_is_accepted() -> None:
    few = ModelConfig(max_samples=100, training=Training(min_samples=20))
    (text,) = problems(few, baseline=Seconds(60), learn_after=Seconds(3600))
    assert text.endswith("set learn_after to 48s or less")
    assert problems(few, baseline=Seconds(60), learn_after=Seconds(48)) == []


@pytest.mark.parametrize(
    ("keys", "word"),
    [
        ({"window": WindowConfig(hop=1_000_000)}, "come every 11.6 days"),
        ({"window": WindowConfig(rate_hz=1e-5, length=10)}, "cover 11.6 days"),
        ({"window": WindowConfig(lateness=Seconds(30 * 86400))}, "holds each decision back for up to 30 days"),
        ({"when": When(for_windows=1_000_000)}, "hold an alarm back for 11.6 days"),
    ],
)
def test_windows_and_alarms_that_would_take_weeks_are_refused(keys: dict[str, Any], word: str) -> None:
    assert any(word in text for text in problems(**keys))


def test_a_level_high_that_comes_before_medium_is_refused(tmp_path: Path) -> None:
    for key, value in (("score", "score = 4.0, after = '1h'"), ("after", "score = 1.0, after = '9h'")):
        with pytest.raises(ConfigError, match=rf"asset\.a\.when\.high\.{key}': got .* but medium\.{key} is"):
            load(tmp_path, when=f"when = {{ medium = {{ {value} }}, high = {{ score = 2.0, after = '2h' }} }}")


def test_a_rate_of_a_sample_in_months_is_refused(tmp_path: Path) -> None:
    for rate in ("1e-9", "4e-7"):
        with pytest.raises(ConfigError, match=r"asset\.a\.window\.rate_hz"):
            load(tmp_path, when=f"window = {{ rate_hz = {rate} }}")


def test_a_model_that_is_never_trained_is_told_from_one_that_never_decides() -> None:
    held = ModelConfig(max_samples=70, training=Training(min_samples=64))
    assert problems(held) == []
    assert "56 of them are not held back, and min_samples is 64" in (training_problem("m", held, (2,)) or "")
    assert training_problem("m", ModelConfig(), (2,)) is None


@pytest.mark.parametrize("holdout", [0.0, 0.05, 0.2, 0.5, 0.7, 0.99])
def test_the_share_that_is_trained_on_is_that_of_the_split(holdout: float) -> None:
    made = split(1.0, 1, 1, holdout)
    held = [made.held(block * made.block_ns, block * made.block_ns) for block in range(600)]
    assert held.count(False) / len(held) == pytest.approx(trained_share(holdout), abs=0.01)
