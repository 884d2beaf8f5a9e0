# SPDX-License-Identifier: Apache-2.0
"""What a federation stores: one flipped bit is noticed, set aside and reported; what serves is restored without it."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest
from fedge_agent.durable.releases import SEALED, ChainStore
from fedge_models.graph import zoo
from fedge_models.graph.card import Card, Channel, WindowSpec
from fedge_models.graph.trainable import TrainableGraph
from fedge_models.system import damage
from fedge_models.training import standardise
from support.made_releases import make_release

CARD = Card("anomaly", (Channel("a"), Channel("b")), WindowSpec(1, 10, 5), ("mean", "std"))
MODEL = zoo.autoencoder(CARD, 4, (3, 2)).SerializeToString()
GRAPH = TrainableGraph.load(MODEL)
X = np.random.default_rng(0).normal(size=(50, 4)).astype(np.float32)


@pytest.fixture
def chain(tmp_path: Path) -> ChainStore:
    made = ChainStore(tmp_path / "f")
    weights = np.array(GRAPH.params)
    release = make_release(weights, np.full(len(GRAPH.sizes), 0.1, np.float32), 3, hashlib.sha256(MODEL).digest())
    made.save_graph(MODEL)
    made.save("head", release)
    made.save("serving", release)
    made.save_tuned(release.hash, weights)
    made.save_scale((4,), standardise.fit(X, CARD), 50)
    return made


def read(chain: ChainStore) -> dict[str, bool]:
    """Which of the files can be read."""
    head, serving = chain.load("head", GRAPH), chain.load("serving", GRAPH)
    found = head or serving
    tuned = found is not None and chain.load_tuned(found.hash, len(GRAPH.params)) is not None
    return {
        "graph.onnx": chain.graph_bytes() == MODEL,
        "head.cbor": head is not None,
        "serving.cbor": serving is not None,
        "tuned.bin": tuned,
        "scale.cbor": chain.load_scale((4,)) is not None,
    }


def test_all_comes_back(chain: ChainStore) -> None:
    assert all(read(chain).values())
    found = chain.load_scale((4,))
    assert found is not None and found[1] == 50
    np.testing.assert_array_equal(found[0](X), standardise.fit(X, CARD)(X))
    assert chain.load_scale((5,)) is None


@pytest.mark.parametrize("name", ["graph.onnx", "head.cbor", "serving.cbor", "tuned.bin", "scale.cbor"])
@pytest.mark.parametrize("where", [0.0, 0.1, 0.5, 0.99])
def test_one_flipped_bit_is_noticed_said_and_costs_only_that_file(
    chain: ChainStore, tmp_path: Path, name: str, where: float
) -> None:
    path = tmp_path / "f" / name
    data = bytearray(path.read_bytes())
    data[int(where * len(data))] ^= 1
    path.write_bytes(data)
    lost = [n for n, whole in read(chain).items() if not whole]
    assert lost == ([] if name == "graph.onnx" else [name])  # nothing decides without the graph: it is stored twice
    if data.startswith(SEALED) or name == "graph.onnx":
        assert f"{name} was damaged" in damage.reports(tmp_path)[0]


@pytest.mark.parametrize("damaged", [b"", b"\xff" * 5000, SEALED, SEALED + bytes(40)])
@pytest.mark.parametrize("name", ["graph.onnx", "graph.sha256", "head.cbor", "serving.cbor", "tuned.bin", "scale.cbor"])
def test_garbage_is_absent(chain: ChainStore, tmp_path: Path, name: str, damaged: bytes) -> None:
    (tmp_path / "f" / name).write_bytes(damaged)
    lost = [n for n, whole in read(chain).items() if not whole]
    assert lost == ([] if name.startswith("graph.") else [name])


@pytest.mark.parametrize("name", ["graph.onnx", "graph.copy.onnx"])
def test_a_graph_is_made_again_from_its_copy(chain: ChainStore, tmp_path: Path, name: str) -> None:
    for damaged in (MODEL[:-1], b"", None, "a folder"):
        path = tmp_path / "f" / name
        path.unlink()
        if damaged == "a folder":
            path.mkdir()
        elif isinstance(damaged, bytes):
            path.write_bytes(damaged)
        assert chain.graph_bytes() == MODEL and path.read_bytes() == MODEL


def test_a_graph_that_is_damaged_twice_is_set_aside(chain: ChainStore, tmp_path: Path) -> None:
    for name in ("graph.onnx", "graph.copy.onnx"):
        (tmp_path / "f" / name).write_bytes(b"x")
    assert chain.graph_bytes() is None and not chain.has_graph() and len(damage.reports(tmp_path)) == 2


def test_a_file_without_a_digest_is_of_an_earlier_version(chain: ChainStore, tmp_path: Path) -> None:
    for name in ("head.cbor", "serving.cbor", "tuned.bin"):
        path = tmp_path / "f" / name
        path.write_bytes(path.read_bytes()[len(SEALED) + 32 :])
    (tmp_path / "f/graph.sha256").unlink()
    assert all(read(chain).values())
