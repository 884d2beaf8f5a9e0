# SPDX-License-Identifier: Apache-2.0
"""The examples that extend fedge or simulate with it run as a reader runs them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from support.waiting import LONGEST_S

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"
PRINTED = {
    "write_a_source.py": ("('load', ", "tag wind: this board does not tell it"),
    "write_an_output.py": ("<13>fedge: pump-1 opened: score 2.5 gw:pumps:pump-1:1 []",),
    "write_a_rule.py": ("midrange [", "fedavg [-"),
    "federate_csv.py": ("macro_f1     federated  alone  central", "plant-2 "),
}


@pytest.mark.parametrize("name", PRINTED)
def test_example_runs(name: str, tmp_path: Path) -> None:
    command = [sys.executable, "-W", "error", str(EXAMPLES / name)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=LONGEST_S, check=False)
    assert done.returncode == 0, done.stderr
    assert all(words in done.stdout for words in PRINTED[name]), done.stdout
    assert not list(tmp_path.iterdir())


def test_own_files_are_federated(tmp_path: Path) -> None:
    from fedge_models.graph import zoo
    from fedge_models.graph.card import Card, Channel, WindowSpec

    card = Card("classify", (Channel("a"),), WindowSpec(1.0, 2, 2), ("mean",), labels=("low", "high"))
    (tmp_path / "net.onnx").write_bytes(zoo.mlp(card, 1, (4,)).SerializeToString())
    for k in range(2):
        rows = "\n".join(f"{v},{'high' if v > 0 else 'low'}" for i in range(300) for v in [(-1) ** (i // 2) * (1 + k)])
        (tmp_path / f"p{k}.csv").write_text(f"a,label\n{rows}\n")
    command = [sys.executable, str(EXAMPLES / "federate_csv.py"), "net.onnx", "p0.csv", "p1.csv"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=LONGEST_S, check=False)
    assert done.returncode == 0 and "p1 " in done.stdout, done.stderr
