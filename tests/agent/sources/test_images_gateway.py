# SPDX-License-Identifier: Apache-2.0
"""Pictures on a gateway: each is decided on at once, stored as bytes, trained on, and scored as offline."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fedge_agent.config.schema import AssetConfig, LabelConfig, ModelConfig, TagConfig, Training
from fedge_agent.durable.spool import Spool
from fedge_agent.federation.participant import Participant
from fedge_agent.health import Latency
from fedge_agent.learning import dataset
from fedge_agent.learning.training import train
from fedge_agent.machines.asset import Asset
from fedge_agent.machines.fit import check_fit
from fedge_agent.samples.label_book import LabelBook, Subject
from fedge_agent.samples.sample_table import Sample
from fedge_agent.samples.store import SampleStore
from fedge_agent.types import AlertState, Batch, Label, Quality, Reading, Window
from fedge_agent.windows.pictures import decode
from fedge_agent.windows.snapshots import Snapshots
from fedge_models.errors import DataError, ModelError
from fedge_models.graph import zoo
from fedge_models.graph.card import Card, Channel, ImageSpec, Task, WindowSpec
from fedge_models.graph.trainable import TrainableGraph
from fedge_models.training import standardise
from fedge_models.training.evaluation import evaluate, predict
from PIL import Image
from support.at_end import AtEnd
from support.made_releases import make_release
from support.paths import recorded_data

S = 10**9


def card(task: Task = "classify", labels: tuple[str, ...] = ("sound", "crack"), **image: Any) -> Card:
    spec = ImageSpec(**{"height": 16, "width": 16, **image})
    return Card(task, (Channel("camera"),), WindowSpec(1, 1, 1), labels=labels, image=spec)


CAMERA, STATE = TagConfig(source="cam", tag="*"), LabelConfig(source="plc", tag="state")


class Gateway:
    """Store, model and one asset, without threads."""

    def __init__(self, folder: Path, made: Card, label: bool = True, **config: Any) -> None:
        (folder / "m.onnx").write_bytes(zoo.cnn2d(made, made.image.shape, (8, 12)).SerializeToString())  # type: ignore[union-attr]
        self.path, self.spool = folder / "samples.sqlite", Spool(folder / "spool.sqlite")
        self.samples = SampleStore(self.path, {"m": 1000})
        training = Training(min_samples=20, epochs=15, learning_rate=0.01)
        self.part = Participant(
            "m", ModelConfig(file=folder / "m.onnx", training=training), folder / "models", self.samples, self.spool,
            None, None, lambda *_: None, lambda _: False,
        )  # fmt: skip
        self.part.restore()
        asset = AssetConfig(model="m", channels={"camera": CAMERA}, label=STATE if label else None, **config)
        self.asset = Asset("gw", "line", asset, self.part, self.samples, Latency(), AlertState(), lambda *_: None)

    def see(self, pixels: np.ndarray, second: float, state: str | None = None) -> None:
        """A picture, and then what the PLC says the state was from just before it."""
        time_ns = round(second * S)
        self.asset.push(Batch("cam", [Reading("*", time_ns, pixels)], None, 0))
        if state is not None:
            self.asset.push(Batch("plc", [Reading("state", time_ns - 1, state)], time_ns, 0))

    def stored(self) -> SampleStore:
        """What was queued is written."""
        self.samples.flush()
        return self.samples

    def close(self) -> None:
        self.samples.stop()
        self.spool.close()


def parts(count: int, size: int = 24) -> Iterator[tuple[np.ndarray, str]]:
    """Noise, half of it with a bright line."""
    rng = np.random.default_rng(0)
    for i in range(count):
        pixels = rng.integers(0, 100, (size, size), dtype=np.uint8)
        if i % 2:
            pixels[:, rng.integers(2, size - 2)] = 255
        yield pixels, ("sound", "crack")[i % 2]


def test_gateway_learns_from_the_pictures_it_stored(tmp_path: Path) -> None:
    gateway = Gateway(tmp_path, card())
    for i, (pixels, state) in enumerate(parts(400)):
        gateway.see(pixels, i, state)
    assert gateway.asset.status()["counters"]["windows"] == 400 and not gateway.asset.decisions  # no scale yet
    stored = gateway.stored()
    x, y, *_ = stored.rows("m", (1, 16, 16), None, 0, np.uint8)
    assert len(x) == 400 and x.dtype == np.uint8 and y.tolist() == [0, 1] * 200
    gateway.part.model.rescale()
    model, graph = gateway.part.model, gateway.part.graph
    assert graph is not None and gateway.part.serving is not None
    data, held = model.usable(held=False), model.usable(held=True)
    assert len(held.x) == 80
    weights = graph.params.copy()
    how = gateway.part.config.training
    head, rng = make_release(weights, np.full(6, 0.1, np.float32), 1), np.random.default_rng(0)
    trained = train(graph, head, data, held, held, how, rng, lambda: None)
    assert trained.before["accuracy"] < 0.8 and trained.after["accuracy"] > 0.95, (trained.before, trained.after)
    gateway.see(next(parts(1))[0], 420)
    assert len(gateway.asset.decisions) == 1 and gateway.asset.decisions[0][0].time_ns == 420 * S
    gateway.close()


def test_a_picture_of_2036_is_decided_on_after_a_moment_and_counted(tmp_path: Path) -> None:
    gateway = Gateway(tmp_path, card(mean=(0.5,), std=(0.25,)), label=False)
    for i, (pixels, _) in enumerate(parts(30)):
        gateway.see(pixels, i + 10 * 365 * 86_400 * (i == 20))
    times = [decision.time_ns // S for decision, _ in gateway.asset.decisions]
    assert times == [*range(20), 19, *range(21, 30)]
    status = gateway.asset.status()
    assert status["counters"]["times_implausible"] == 1 and set(status["implausible_times"]) == {"camera"}
    gateway.see(pixels, 10 * 365 * 86_400)
    assert len(gateway.asset.decisions) == 30
    gateway.asset.judge_history(3.0)
    assert len(gateway.asset.decisions) == 31
    gateway.close()


def test_picture_is_decided_on_at_once_where_the_card_normalises(tmp_path: Path) -> None:
    gateway = Gateway(tmp_path, card(mean=(0.5,), std=(0.25,)), label=False)
    pixels = next(parts(1))[0]
    gateway.see(pixels, 5)
    (decision, actual), graph = gateway.asset.decisions[0], gateway.part.graph
    assert actual is None and decision.label in ("sound", "crack") and graph is not None
    image = np.asarray(Image.fromarray(pixels).resize((16, 16), Image.Resampling.BOX), np.float32)
    logits = predict(graph, np.asarray((image[None, None] / 255 - 0.5) / 0.25, np.float32))[0]
    score = 1 - np.exp(logits[0]) / np.exp(logits).sum()
    assert decision.score == pytest.approx(score, abs=0.02)  # BOX is no area mean, but near it
    gateway.close()


def test_anomaly_of_pictures_names_no_other_channel(tmp_path: Path) -> None:
    import onnx
    from onnx import TensorProto, helper, numpy_helper
    from fedge_models.graph.card import write_card  # isort: skip

    made = card("anomaly", ())
    names = {"w": np.zeros((1, 1, 3, 3), np.float32), "b": np.zeros(1, np.float32)}
    value = [helper.make_tensor_value_info(n, TensorProto.FLOAT, ["batch", 1, 16, 16]) for n in ("x", "y")]
    node = helper.make_node("Conv", ["x", "w", "b"], ["y"], pads=[1, 1, 1, 1])
    tensors = [numpy_helper.from_array(v, k) for k, v in names.items()]
    graph = helper.make_graph([node], "g", [value[0]], [value[1]], tensors)
    model: onnx.ModelProto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    write_card(model, made)
    gateway = Gateway(tmp_path, card(), label=False)
    gateway.part.model.adopt(model.SerializeToString())
    rng = np.random.default_rng(0)
    for i in range(60):
        gateway.see(rng.integers(100, 120, (16, 16), dtype=np.uint8), i)
    gateway.stored()
    gateway.part.model.rescale()
    gateway.see(np.full((16, 16), 255, np.uint8), 100)
    decision = gateway.asset.decisions[-1][0]
    assert decision.label == "anomaly" and decision.channel == "camera" and decision.score > decision.threshold
    gateway.close()


def windows(made: Snapshots, *readings: Reading, alive: int | None = None, source: str = "cam") -> Sequence[Window]:
    return made.push(Batch(source, readings, alive, 7))


def snapshots(late: float = 5.0, labels: Sequence[TagConfig] = (STATE,)) -> Snapshots:
    return Snapshots("line", CAMERA, labels, ImageSpec(2, 2), late)


PIXELS = np.zeros((2, 2), np.uint8)


def test_sample_waits_for_the_label_of_its_own_time() -> None:
    made = snapshots()
    windows(made, Reading("state", 1 * S, "sound"), source="plc")
    assert [w.end_ns for w in windows(made, Reading("*", 2 * S, PIXELS))] == [2 * S]
    assert made.labelled() == []  # the PLC may say "crack" of 1.9 s a moment later
    windows(made, Reading("state", round(1.9 * S), "crack"), alive=round(1.95 * S), source="plc")
    assert made.labelled() == []
    windows(made, Reading("state", 3 * S, "sound"), source="plc")
    assert [w.label for w in made.labelled()] == ["crack"]


def test_unchanged_label_is_known_and_a_lost_one_is_not() -> None:
    made = snapshots()
    windows(made, Reading("state", 1 * S, 1.0), alive=10 * S, source="plc")
    windows(made, Reading("*", 9 * S, PIXELS))
    assert [w.label for w in made.labelled()] == [1.0]
    made.push(Batch("plc", [Reading("state", 20 * S, 0.0)], None, 0, fresh=True))
    windows(made, Reading("*", 15 * S, PIXELS))
    assert [w.label for w in made.labelled()] == [None]  # nobody knows what it was between the connections


def test_label_is_waited_for_in_source_time_and_never_for_ever() -> None:
    made = snapshots(late=5.0)
    windows(made, Reading("*", 1 * S, PIXELS))
    windows(made, Reading("*", 5 * S, PIXELS))
    assert made.labelled() == []
    windows(made, Reading("*", 6 * S, PIXELS))
    assert [(w.end_ns, w.label) for w in made.labelled()] == [(S, None)]
    made = snapshots(late=1e6)
    for i in range(70):
        windows(made, Reading("*", i, PIXELS))
    assert len(made.labelled()) == 6
    made = snapshots(labels=())
    windows(made, Reading("*", 3, PIXELS))
    assert len(made.labelled()) == 1  # without a label nothing waits


def test_label_tag_whose_clock_is_set_back_and_bad_ones() -> None:
    made = snapshots(late=1e6)
    windows(made, Reading("state", 100 * S, "sound"), Reading("state", 50 * S, "crack"), source="plc")
    windows(made, Reading("*", 50 * S, PIXELS))
    assert [w.label for w in made.labelled()] == ["crack"]
    windows(made, Reading("state", 60 * S, "sound", Quality.BAD), source="plc")
    windows(made, Reading("*", 60 * S, PIXELS))
    assert [w.label for w in made.labelled()] == [None]


def test_several_targets_of_a_picture() -> None:
    other = TagConfig(source="plc", tag="width")
    made = snapshots(labels=(STATE, other))
    windows(made, Reading("state", S, 1.5), Reading("width", S, "text"), alive=2 * S, source="plc")
    windows(made, Reading("*", 2 * S, PIXELS))
    label = made.labelled()[0].label
    assert isinstance(label, tuple) and label[0] == 1.5 and np.isnan(label[1])


NO_PICTURES: dict[str, float | str | np.ndarray] = {
    "number": 5.0, "text": "png", "floats": np.zeros((2, 2), np.float32), "a waveform": np.zeros(9, np.float32),
    "four colours": np.zeros((2, 2, 4), np.uint8), "nothing": np.zeros((0, 2), np.uint8),
}  # fmt: skip


@pytest.mark.parametrize("name", NO_PICTURES)
def test_what_is_no_picture_is_counted_and_the_next_is_decided_on(name: str) -> None:
    made = snapshots(labels=())
    bad = Reading("*", 2, PIXELS, Quality.BAD)
    assert len(windows(made, Reading("*", 1, NO_PICTURES[name]), bad, Reading("*", 3, PIXELS))) == 1
    assert (made.counters.not_pictures, made.counters.bad, made.counters.windows) == (1, 1, 1)


def test_actual_label_joins_the_decision_later(tmp_path: Path) -> None:
    gateway = Gateway(tmp_path, card(mean=(0.5,), std=(0.5,)))
    gateway.see(PIXELS, 1)
    assert [d["actual"] for d in gateway.asset.recent()] == [None]
    gateway.see(PIXELS, 2, "crack")
    gateway.asset.push(Batch("plc", [], 9 * S, 0))
    assert [d["actual"] for d in gateway.asset.recent()] == [None, 1]
    assert gateway.stored().labels("m") == {"1": 1}
    gateway.close()


def test_samples_are_bounded_in_bytes_too(at_end: AtEnd, tmp_path: Path) -> None:
    store = at_end(SampleStore(tmp_path / "s.sqlite", {"m": 1000}, {"m": 4 * 64 * 64 * 10}))
    large = np.zeros((3, 1024, 1024), np.uint8)
    for i in range(40):
        store.put(Sample("other", "line", i, large, None, False))
    assert store.lost == 40 - 32 * 2**20 // large.nbytes  # a disk that is slow cannot fill the memory
    for i in range(25):
        store.put(Sample("m", "line", i, np.zeros((1, 64, 64), np.uint8), None, False))
    store.start()
    store.stop()
    store = at_end(SampleStore(tmp_path / "s.sqlite", {"m": 1000}))
    assert len(store.rows("m", (1, 64, 64), None, 0, np.uint8).x) == 10
    store.start()
    store.stop()


def test_asset_must_fit_the_model(tmp_path: Path) -> None:
    asset = AssetConfig(model="m", channels={"camera": CAMERA})
    check_fit("line", asset, card(colour="rgb"), (3, 16, 16))
    with pytest.raises(ModelError, match=r"expects inputs of shape \(3, 16, 16\), this asset gives \(1, 16, 16\)"):
        check_fit("line", asset, card(), (3, 16, 16))


def test_file_of_pictures_as_they_were_taken(tmp_path: Path) -> None:
    x = np.random.default_rng(0).integers(0, 256, (9, 32, 32, 3), dtype=np.uint8)
    np.savez(tmp_path / "d.npz", x=x, y=np.zeros(9, np.int64))
    found = dataset.load(tmp_path / "d.npz", card(), (1, 16, 16))
    assert found.x.shape == (9, 1, 16, 16) and found.x.dtype == np.float32
    np.savez(tmp_path / "d.npz", x=x[..., :2])
    with pytest.raises(DataError, match="is no picture"):
        dataset.load(tmp_path / "d.npz", card(), (1, 16, 16))
    small, known = x[:, ::2, ::2, 0], card(mean=(0.5,), std=(0.2,))
    np.savez(tmp_path / "d.npz", x=small.astype(np.float64))
    assert (dataset.load(tmp_path / "d.npz", known, (1, 16, 16)).x[:, 0] == small).all()
    np.savez(tmp_path / "d.npz", x=small / 255)
    with pytest.raises(DataError, match=r"d.npz: x holds values from 0 to 1, a picture those from 0 to 255"):
        dataset.load(tmp_path / "d.npz", known, (1, 16, 16))


@pytest.mark.parametrize("name", ["xsdd/line1.npz", "elpv/mono-A.npz"])
def test_real_pictures_score_on_the_gateway_as_offline(tmp_path: Path, name: str) -> None:
    """From PNG files over decoding, bytes and ONNX Runtime, against NumPy on the arrays of the set."""
    with np.load(recorded_data() / name, allow_pickle=False) as file:
        x, y, test = file["x"], file["y"].astype(int), file["test"] == 1
    names = tuple(f"class {i}" for i in range(y.max() + 1))
    made = card(labels=names, height=64, width=64)
    gateway = Gateway(tmp_path, made, label=False)
    for i, pixels in enumerate(x[~test]):
        file = io.BytesIO()
        Image.fromarray(pixels).save(file, "PNG")
        gateway.see(decode(file.getvalue()), i)
    gateway.stored()
    gateway.part.model.rescale()
    for i, pixels in enumerate(x[test]):
        gateway.see(pixels, 100_000 + i)
    graph = TrainableGraph.load((tmp_path / "m.onnx").read_bytes())
    scale = standardise.fit(x[~test][:, None].astype(np.float32), made)
    logits = predict(graph, scale(x[test][:, None].astype(np.float32)))
    wanted = 1 - np.exp(logits[:, 0]) / np.exp(logits).sum(axis=1)
    decisions = [d for d, _ in gateway.asset.decisions]
    np.testing.assert_allclose([d.score for d in decisions], wanted, atol=2e-5)
    assert [d.label for d in decisions] == [names[i] for i in logits.argmax(axis=1)]
    assert evaluate(graph, scale(x[test][:, None]), y[test])["accuracy"] == pytest.approx(
        np.mean([d.label == names[k] for d, k in zip(decisions, y[test], strict=True)])
    )
    gateway.close()


def test_late_label_teaches_the_picture_of_its_time(at_end: AtEnd, tmp_path: Path) -> None:
    """Of an inspection by hand: a moment, or the second in which the part was seen."""
    made = card()
    store = at_end(SampleStore(tmp_path / "s.sqlite", {"m": 100}))
    for second in range(4):
        store.put(Sample("m", "line", second * S, np.zeros((1, 16, 16), np.uint8), None, False))
    store.flush()
    book = at_end(LabelBook(tmp_path / "s.sqlite", {"line": Subject("m", lambda: made, None)}, store.count_as_new))
    book.put(Label("line", 1 * S, 1 * S, "crack", "hand"))
    book.put(Label("line", round(1.9 * S), round(2.1 * S), "sound", "inspection"))
    book.match_new()
    assert store.rows("m", (1, 16, 16), None, 0, np.uint8).y.tolist() == [-1, 1, 0, -1]
    book.stop()
    store.stop()
