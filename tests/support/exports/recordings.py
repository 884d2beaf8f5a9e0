# SPDX-License-Identifier: Apache-2.0
"""Recorded data that an exported network learns from as on a gateway: a table of readings, or a folder of pictures."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from click.testing import CliRunner
from fedge_agent.cli.main import main
from fedge_models.graph.card import Card
from fedge_models.graph.intake import read_model
from fedge_models.model import Model
from PIL import Image

from .network import Network

WINDOWS, PICTURES = 60, 24
CAMERA = (45, 60)  # pixels (height, width), no size that a network takes
NORMAL = "normal"


def recorded(network: Network, folder: Path) -> Path:
    """Write data for a network as a machine of it gives it."""
    if network.kind == "picture":
        return pictures(network.card().labels, folder / "camera", network.several)
    (folder / "log.csv").write_text(readings(network))
    return folder / "log.csv"


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


def pictures(labels: Sequence[str], folder: Path, several: bool = False) -> Path:
    """A folder of PICTURES pictures in sub-folders with the names of labels: PNG and JPEG, grey and in colours.

    several: each shows the labels up to its own.
    """
    labels = labels or (NORMAL,)
    for i in range(PICTURES):
        kind = i % len(labels)
        name = ";".join(labels[: kind + 1]) if several else labels[kind]
        (folder / name).mkdir(parents=True, exist_ok=True)
        pixels = picture(i, kind)
        Image.fromarray(pixels).save(folder / name / f"part_{i}.{('png', 'jpg')[i // len(labels) % 2]}")
    return folder


def picture(number: int, kind: int) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    """What the camera sees: noise, and a bright bar whose place says what kind of part it is. Every third is grey."""
    height, width = CAMERA
    pixels = np.random.default_rng(number).integers(60, 110, (height, width, 3), dtype=np.uint8)
    pixels[:, 5 + 20 * kind : 15 + 20 * kind] = 220
    return pixels[..., 0] if number % 3 == 2 else pixels


def trained_parameters(file: Path, card: Path, data: Path, patterns: str) -> int:
    """Train a file as the exporter wrote it by the command of a gateway; how many parameters that changed."""
    out = file.with_name("trained.onnx")
    given = ["--card", card, "--data", data, "--trainable", patterns, "--epochs", 1, "--batch", 8, "--out", out]
    done = CliRunner().invoke(main, ["train", *map(str, [file, *given, "--json"])])
    assert done.exit_code == 0, done.output + repr(done.exception)
    before, after = (Model(made).graph.params for made in (read_model(file, card, patterns), out.read_bytes()))
    assert before.shape == after.shape and np.isfinite(after).all()
    assert np.isfinite(json.loads(done.stdout)["after"]["loss"]), done.stdout
    return int((before != after).sum())


def card_file(card: Card, path: Path) -> Path:
    """Write a card as its user does."""
    keys = {key: value for key, value in msgspec.to_builtins(card).items() if value not in (None, "", [], {})}
    path.write_text("".join(f"{key} = {_toml(value)}\n" for key, value in keys.items()))
    return path


def _toml(value: Any) -> str:
    if isinstance(value, dict):
        return f"{{ {', '.join(f'{k} = {_toml(v)}' for k, v in value.items() if v is not None)} }}"
    return f"[{', '.join(map(_toml, value))}]" if isinstance(value, list | tuple) else json.dumps(value)
