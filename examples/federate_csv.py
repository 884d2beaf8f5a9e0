# SPDX-License-Identifier: Apache-2.0
"""Federate three CSV files: would plants that keep their data learn a better model together?

    python examples/federate_csv.py net.onnx plant-a.csv plant-b.csv plant-c.csv

A file has a column for each channel of the model's card and a column `label`. Without arguments three files are made:
plants with the same fault, whose sensors differ, and of which the third has seen little.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import fedge_fleet
import fedge_models as fm
import numpy as np

CARD = fm.Card(
    "classify",
    (fm.Channel("current_A", "A"), fm.Channel("vibration_g", "g")),
    fm.WindowSpec(rate_hz=10.0, length=20, hop=20),
    ("mean", "std"),
    labels=("ok", "worn"),
)


def plant(path: Path, windows: int, offset: float, seed: int) -> Path:
    """A recording: worn bearings draw a little more current and shake more, in pieces of twenty windows."""
    rng = np.random.default_rng(seed)
    worn = np.repeat(np.arange(windows // 20) % 2, 20 * CARD.window.length)
    current = 8 + offset + 0.3 * worn + 0.5 * rng.standard_normal(len(worn))
    vibration = (0.2 + 0.1 * worn + 0.05 * abs(offset)) * rng.standard_normal(len(worn))
    lines = [f"{c:.3f},{v:.4f},{CARD.labels[w]}" for c, v, w in zip(current, vibration, worn, strict=True)]
    path.write_text("current_A,vibration_g,label\n" + "\n".join(lines) + "\n")
    return path


def main(arguments: list[str]) -> None:
    """Compare the federation with each plant alone and with all data in one place."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if arguments:
            model, *files = map(Path, arguments)
        else:
            model = folder / "net.onnx"
            fm.starter(CARD, inputs=4).save(model)  # two features of two channels
            sizes = ((400, 0.0), (400, 1.5), (100, -1.0))
            files = [plant(folder / f"plant-{k}.csv", n, offset, k) for k, (n, offset) in enumerate(sizes)]
        training = fm.TrainingConfig(epochs=5, learning_rate=0.01)
        found = fedge_fleet.simulate_federation({f.stem: f for f in files}, model, rounds=20, training=training)
    print(f"{found.metric:12} federated  alone  central")
    for site, score in found.federated.items():
        print(f"{site:12} {score:9.3f} {found.alone[site]:6.3f} {found.central[site]:8.3f}")


if __name__ == "__main__":
    main(sys.argv[1:])
