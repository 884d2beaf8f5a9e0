# SPDX-License-Identifier: Apache-2.0
"""Every exported network trains on what a gateway makes of readings and pictures, whole and by its head."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.counterparts import counterpart

counterpart("torch")
counterpart("onnxscript")

from support.exports import parts, torch_tables  # noqa: E402
from support.exports.exporting import Way, export, made  # noqa: E402
from support.exports.recordings import card_file, recorded, trained_parameters  # noqa: E402
from support.exports.registry import NETWORKS, some  # noqa: E402

PAGE = parts.PAGE.read_text("utf-8")
TAKEN = [(n, w) for n, w in some() if torch_tables.said_of(PAGE, n, w) != parts.REFUSED]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "way"), TAKEN, ids=str)
def test_exported_network_trains_on_what_a_machine_gives(name: str, way: Way, tmp_path: Path) -> None:
    network, path = NETWORKS[name], tmp_path / "net.onnx"
    net = made(network, way.state)
    export(net, network, way, path)
    card, data = card_file(network.card(), tmp_path / "card.toml"), recorded(network, tmp_path)
    head = network.head or [n for n, _ in net.named_parameters()][-1].rpartition(".")[0] + ".*"
    sizes = [trained_parameters(path, card, data, patterns) for patterns in ("*", head)]
    assert 0 < sizes[1] <= sizes[0], sizes
