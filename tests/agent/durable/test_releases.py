# SPDX-License-Identifier: Apache-2.0
"""What a federation stores: one flipped bit is noticed, set aside and reported; what serves is restored without it."""

from __future__ import annotations

import errno
import hashlib
from pathlib import Path

import numpy as np
import pytest
from fedge_agent.durable.releases import LOSSES, SEALED, ChainStore
from fedge_models.errors import StorageError
from fedge_models.graph import zoo
from fedge_models.graph.card import Card, Channel, WindowSpec
from fedge_models.graph.trainable import TrainableGraph
from fedge_models.system import damage, files
from fedge_models.training import standardise
from support.made_releases import make_release
from support.rights import as_nobody, folder_of_nobody

CARD = Card("anomaly", (Channel("a"), Channel("b")), WindowSpec(1, 10, 5), ("mean", "std"))
MODEL = zoo.autoencoder(CARD, 4, (3, 2)).SerializeToString()
GRAPH = TrainableGraph.load(MODEL)
FILES = ["head.cbor", "serving.cbor", "tuned.bin", "scale.cbor", "limits.cbor"]
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
    made.save_limits(b"limits")
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
        "limits.cbor": chain.load_limits() is not None,
    }


def test_all_comes_back(chain: ChainStore) -> None:
    assert all(read(chain).values())
    found = chain.load_scale((4,))
    assert found is not None and found[1] == 50
    np.testing.assert_array_equal(found[0](X), standardise.fit(X, CARD)(X))
    assert chain.load_scale((5,)) is None


@pytest.mark.parametrize("name", ["graph.onnx", *FILES])
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
    assert (
        f"{name} was damaged" in damage.reports(tmp_path)[0] and LOSSES[name].split()[-1] in damage.reports(tmp_path)[0]
    )


@pytest.mark.parametrize("damaged", [b"", b"\xff" * 5000, b"x" * 180, SEALED, SEALED + bytes(40)])
@pytest.mark.parametrize("name", ["graph.onnx", "graph.sha256", *FILES])
def test_garbage_is_absent(chain: ChainStore, tmp_path: Path, name: str, damaged: bytes) -> None:
    (tmp_path / "f" / name).write_bytes(damaged)
    lost = [n for n, whole in read(chain).items() if not whole]
    assert lost == ([] if name.startswith("graph.") else [name])
    [said] = damage.reports(tmp_path)
    assert said.startswith(f"{name} was damaged: ")


def test_a_digest_that_is_lost_is_made_again_from_two_equal_copies(chain: ChainStore, tmp_path: Path) -> None:
    (tmp_path / "f/graph.sha256").write_bytes(b"")
    assert chain.graph_bytes() == MODEL
    (tmp_path / "f/graph.onnx").write_bytes(MODEL[:-1])
    assert chain.graph_bytes() == MODEL


@pytest.mark.parametrize("name", FILES)
def test_what_cannot_be_read_is_a_problem_until_it_is_written(
    chain: ChainStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    path = tmp_path / "f" / name
    with monkeypatch.context() as patched:
        read_bytes = Path.read_bytes

        def failing(asked: Path) -> bytes:
            if asked == path:
                raise OSError(errno.EIO, "Input/output error", str(path))
            return read_bytes(asked)

        patched.setattr(Path, "read_bytes", failing)
        assert not read(chain)[name]
    assert list(chain.problems) == [name] and "Input/output error" in chain.problems[name]
    assert damage.reports(tmp_path) == [] and path.exists()
    chain._write(name, b"again")
    assert chain.problems == {} and f"{name} was lost: " in damage.reports(tmp_path)[0]


@pytest.mark.parametrize("kind", ["a file", "damaged", "a folder"])
def test_what_this_user_may_not_read_stays_and_what_is_made_anew_is_held_in_memory(kind: str) -> None:
    with folder_of_nobody() as folder, as_nobody():
        ChainStore(folder).save_limits(b"old")
        path = folder / "limits.cbor"
        if kind == "damaged":
            path.write_bytes(b"x")
        elif kind == "a folder":
            path.unlink()
            path.mkdir()
        path.chmod(0)
        chain = ChainStore(folder)
        assert chain.load_limits() is None
        chain.save_limits(b"new")
        assert chain.load_limits() == b"new"
        [(name, why)] = chain.problems.items()
        assert name == "limits.cbor" and "no permission" in why and f"chmod u+rwX {path}" in why.replace("-R ", "")
        assert "made again from the stored samples, in memory" in why
        assert list(folder.iterdir()) == [path] and path.stat().st_mode & 0o777 == 0
        if kind == "a file":
            path.chmod(0o600)
            assert chain.problems == {} and chain.load_limits() == b"old"
            chain.save_limits(b"newest")
            assert ChainStore(folder).load_limits() == b"newest" and list(folder.iterdir()) == [path]


def test_what_the_disk_does_not_take_at_first_is_held_in_memory_and_written_later(tmp_path: Path) -> None:
    chain = ChainStore(tmp_path / "f" / "m")
    (tmp_path / "f" / "m").rmdir()
    (tmp_path / "f").rmdir()
    (tmp_path / "f").write_bytes(b"")  # no folder can be made, so nothing can be stored
    release = make_release(
        np.array(GRAPH.params), np.full(len(GRAPH.sizes), 0.1, np.float32), 3, hashlib.sha256(MODEL).digest()
    )
    chain.save_graph(MODEL)
    chain.save("head", release)
    chain.save_limits(b"limits")
    assert chain.graph_bytes() == MODEL and chain.has_graph() and chain.load_limits() == b"limits"
    held = chain.load("head", GRAPH)
    assert held is not None and held.header.version == 3
    assert chain.unwritten is not None and "cannot be made: " in chain.unwritten
    chain.write_held(100.0)
    assert chain.unwritten is not None
    (tmp_path / "f").unlink()
    chain.write_held(105.0)  # not yet again
    assert not (tmp_path / "f").exists()
    chain.write_held(120.0)
    assert chain.unwritten is None
    again = ChainStore(tmp_path / "f" / "m")
    assert again.graph_bytes() == MODEL and again.load("head", GRAPH) is not None and again.load_limits() == b"limits"


def test_a_stored_release_is_never_replaced_in_memory_only(
    chain: ChainStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path, _data: bytes) -> None:
        raise StorageError(f"{path}: cannot be written: No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(files, "write_with_folder", full)
        newer = make_release(np.array(GRAPH.params), np.full(len(GRAPH.sizes), 0.1, np.float32), 4, bytes(32))
        with pytest.raises(StorageError):
            chain.save("head", newer)
        chain.save_scale((4,), standardise.fit(2 * X, CARD), 60)  # made of samples: it may
        found = chain.load_scale((4,))
        assert found is not None and found[1] == 60
    head = chain.load("head", GRAPH)
    assert head is not None and head.header.version == 3
    chain.write_held(100.0)
    found = ChainStore(tmp_path / "f").load_scale((4,))
    assert found is not None and found[1] == 60


def test_what_was_made_while_a_folder_could_not_be_read_is_written_to_it() -> None:
    with folder_of_nobody() as folder, as_nobody():
        folder.chmod(0)
        chain = ChainStore(folder)
        assert chain.load_limits() is None
        chain.save_limits(b"new")
        chain.write_held(100.0)
        assert chain.load_limits() == b"new" and "no permission" in chain.problems["limits.cbor"]
        folder.chmod(0o700)
        chain.write_held(200.0)
        assert chain.problems == {} and ChainStore(folder).load_limits() == b"new"


def test_a_model_file_that_this_user_may_not_read_is_never_set_aside() -> None:
    with folder_of_nobody() as folder, as_nobody():
        ChainStore(folder).save_graph(MODEL)
        (folder / "graph.onnx").chmod(0)
        chain = ChainStore(folder)
        assert chain.graph_bytes() == MODEL and list(chain.problems) == ["graph.onnx"]
        chain.graph_is_damaged("it is of another release")
        left = sorted(p.name for p in folder.iterdir() if damage.MARK not in p.name)
        assert left == ["graph.onnx"] and (folder / "graph.onnx").stat().st_mode & 0o777 == 0


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
