# SPDX-License-Identifier: Apache-2.0
"""Networks of other tools on a gateway: rows of a table without a dimension of time, and windows of time first."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from fedge_agent.config import schema
from fedge_agent.learning import dataset
from fedge_agent.learning.limits import Limit
from fedge_agent.learning.serving import Serving, Session
from fedge_agent.machines.fit import check_fit
from fedge_agent.windows.features import Preparation
from fedge_models import load
from fedge_models.graph.card import Card, Channel, WindowSpec, write_card
from fedge_models.system import settings
from support.graphs import N, normal, small

NAMES = ("a", "b", "c")
LABELS = ("ok", "worn", "blocked")


def gateway(folder: Path, length: int) -> schema.AssetConfig:
    channels = "".join(f'channels.{n} = {{ source = "s", tag = "{n}" }}\n' for n in NAMES)
    window = f"window = {{ rate_hz = 1.0, length = {length}, hop = 1 }}\n"
    text = f'[agent]\nname = "g"\nstate = "{folder}"\n[source.s]\ntype = "files"\npath = "d.csv"\nrate_hz = 1.0\n'
    (folder / "gw.toml").write_text(f'{text}[model.m]\nfile = "m.onnx"\n[asset.x]\nmodel = "m"\n{window}{channels}')
    return settings.load(folder / "gw.toml", schema.Config).asset["x"]


@pytest.mark.parametrize(("shape", "length"), [((3,), 1), ((8, 3), 8)], ids=["a row", "time first"])
def test_gateway_feeds_and_decides(shape: tuple[int, ...], length: int, tmp_path: Path) -> None:
    size = int(np.prod(shape))
    turned = N("Transpose", ["x"], ["t"], perm=[0, 2, 1] if len(shape) > 1 else [0, 1])
    model = small(
        [turned, N("Flatten", ["t"], ["f"]), N("Gemm", ["f", "w"], ["y"])], {"w": normal(size, 3)}, shape, (3,)
    )
    card = Card("classify", tuple(map(Channel, NAMES)), WindowSpec(1, length, 1), labels=LABELS)
    write_card(model, card)
    (tmp_path / "m.onnx").write_bytes(model.SerializeToString())
    loaded = load(tmp_path / "m.onnx")
    check_fit("x", gateway(tmp_path, length), loaded.card, loaded.graph.input_shape)

    rows = "".join(f"{a:.3f},{b:.3f},{c:.3f},{LABELS[i // 40 % 3]}\n" for i, (a, b, c) in enumerate(normal(600, 3)))
    (tmp_path / "d.csv").write_text("a,b,c,label\n" + rows)
    samples = dataset.load(tmp_path / "d.csv", loaded.card, loaded.graph.input_shape)
    scale = loaded.fit_scale(samples.x, samples.y)
    loaded.train(*samples.part(test=False))

    session = Session(loaded.to_bytes(), loaded.graph.initializers(loaded.graph.params))
    serving = Serving(session, loaded.card, 1, scale, Limit(1e9), loaded.graph.gives_probabilities)
    windows = normal(5, 3, length)
    decided = [serving.decide(Preparation(loaded.card)(window)).score for window in windows]
    np.testing.assert_allclose(decided, loaded.score(windows), rtol=1e-4, atol=1e-6)
