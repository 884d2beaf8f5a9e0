# SPDX-License-Identifier: Apache-2.0
"""Networks exported from PyTorch, by both of its exporters: the same outputs, the same gradients, the same step."""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import onnx
import pytest
from fedge_models import load
from fedge_models.graph.card import Card, Channel, WindowSpec, write_card
from fedge_models.graph.intake import read_model
from fedge_models.graph.trainable import TrainableGraph
from support.counterparts import counterpart
from support.graphs import check_gradient, run_ort

torch = counterpart("torch")
nn = torch.nn
Module: Any = nn.Module

CARD = Card("classify", (Channel("a"),), WindowSpec(1, 1, 1), labels=("ok", "bad", "worse"))
SHAPES = {"table": (12,), "wave": (3, 32), "image": (2, 16, 16), "series": (10, 4)}


class Residual(Module):  # type: ignore[misc]
    """A block with a shortcut, around whatever it is given."""

    def __init__(self, *inner: Any, shortcut: Any = None) -> None:
        super().__init__()
        self.inner, self.shortcut = nn.Sequential(*inner), shortcut or nn.Identity()

    def forward(self, x: Any) -> Any:
        return torch.relu(self.inner(x) + self.shortcut(x))


class Squeeze(Module):  # type: ignore[misc]
    """Squeeze and excitation (Hu et al. 2018)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.gate = nn.Sequential(
            nn.AdaptiveAvgPool2d(1), nn.Conv2d(channels, 2, 1), nn.ReLU(), nn.Conv2d(2, channels, 1)
        )

    def forward(self, x: Any) -> Any:
        return x * nn.functional.hardsigmoid(self.gate(x))


class Last(Module):  # type: ignore[misc]
    """A recurrent layer, read at its end, and on the mean of all moments."""

    def __init__(self, layer: Any, width: int) -> None:
        super().__init__()
        self.layer, self.head = layer, nn.Linear(2 * width, 3)

    def forward(self, x: Any) -> Any:
        y, _ = self.layer(x)
        return self.head(torch.cat([y[:, -1], y.mean(dim=1)], dim=1))


class Branches(Module):  # type: ignore[misc]
    """Inception-like: kernels side by side, joined (Szegedy et al. 2015)."""

    def __init__(self) -> None:
        super().__init__()
        self.parts = nn.ModuleList([nn.Conv1d(3, 4, k, padding=k // 2) for k in (1, 3, 5)])
        self.head = nn.Linear(12, 3)

    def forward(self, x: Any) -> Any:
        y = torch.cat([torch.tanh(p(x)) for p in self.parts], dim=1)
        return self.head(torch.cat([y[:, :6].amax(dim=2), y[:, 6:].mean(dim=2)], dim=1))


class Shared(Module):  # type: ignore[misc]
    """One layer used twice."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.head = nn.Linear(12, 12), nn.Linear(12, 3)

    def forward(self, x: Any) -> Any:
        return self.head(torch.tanh(self.layer(torch.tanh(self.layer(x)))))


class Attention(Module):  # type: ignore[misc]
    """A transformer's encoder block, averaged over time (Vaswani et al. 2017)."""

    def __init__(self) -> None:
        super().__init__()
        self.enter = nn.Linear(4, 8)
        self.block = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True, norm_first=True)
        self.head = nn.Linear(8, 3)

    def forward(self, x: Any) -> Any:
        return self.head(self.block(self.enter(x)).mean(dim=1))


class Causal(Attention):
    """The same, each moment blind to what comes after it."""

    def forward(self, x: Any) -> Any:
        hidden = nn.Transformer.generate_square_subsequent_mask(10)
        return self.head(self.block(self.enter(x), src_mask=hidden, is_causal=True).mean(dim=1))


def mobile(channels: int) -> list[Any]:
    """A depthwise separable block (Howard et al. 2019)."""
    wide = 2 * channels
    return [
        nn.Conv2d(channels, wide, 1), nn.Hardswish(), nn.Conv2d(wide, wide, 3, 2, 1, groups=wide), nn.Hardswish(),
        Squeeze(wide), nn.Conv2d(wide, channels, 1),
    ]  # fmt: skip


NETS: dict[str, tuple[str, Callable[[], Any]]] = {
    "mlp": ("table", lambda: nn.Sequential(
        nn.Linear(12, 16), nn.LayerNorm(16), nn.GELU(), nn.Dropout(0.3), nn.Linear(16, 8), nn.SiLU(), nn.Linear(8, 3))),
    "residual 1-D": ("wave", lambda: nn.Sequential(
        nn.Conv1d(3, 6, 5, 2, 2), nn.BatchNorm1d(6), nn.ReLU(),
        Residual(nn.Conv1d(6, 6, 3, padding=1), nn.BatchNorm1d(6), nn.LeakyReLU(0.1), nn.Conv1d(6, 6, 3, padding=1)),
        nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(6, 3))),
    "mobile 2-D": ("image", lambda: nn.Sequential(
        nn.Conv2d(2, 4, 3, padding=1), nn.Hardswish(), *mobile(4), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        nn.Linear(4, 3))),
    "resnet 2-D": ("image", lambda: nn.Sequential(
        nn.Conv2d(2, 4, 3, padding=1), nn.ReLU(), nn.MaxPool2d(3, 2, 1),
        Residual(nn.Conv2d(4, 8, 3, 2, 1), nn.ReLU(), nn.Conv2d(8, 8, 3, padding=1), shortcut=nn.Conv2d(4, 8, 1, 2)),
        nn.AvgPool2d(2), nn.Flatten(), nn.Linear(32, 3))),
    "norms": ("image", lambda: nn.Sequential(
        nn.Conv2d(2, 4, 3, padding=1), nn.InstanceNorm2d(4, affine=True), nn.ELU(), nn.Conv2d(4, 4, 3, 2),
        nn.GroupNorm(2, 4), nn.PReLU(4), nn.Flatten(), nn.Linear(196, 3))),
    "lstm": ("series", lambda: Last(nn.LSTM(4, 5, batch_first=True), 5)),
    "gru both ways": ("series", lambda: Last(nn.GRU(4, 5, batch_first=True, bidirectional=True), 10)),
    "attention": ("series", Attention),
    "branches": ("wave", Branches),
    "shared": ("table", Shared),
    "up and down": ("wave", lambda: nn.Sequential(
        nn.Conv1d(3, 4, 4, 2, 1), nn.Softplus(), nn.ConvTranspose1d(4, 3, 4, 2, 1), nn.Tanh(), nn.Flatten(),
        nn.Linear(96, 3))),
    "up by neighbours": ("image", lambda: nn.Sequential(
        nn.Conv2d(2, 3, 3, 2, 1), nn.ReLU(), nn.Upsample(scale_factor=2), nn.Conv2d(3, 2, 3, padding=1),
        nn.Upsample((9, 11), mode="bilinear"), nn.Flatten(), nn.Linear(198, 3))),
    "no future": ("series", Causal),
}  # fmt: skip
EXPORTERS = ["torchscript", "dynamo"]


@pytest.fixture(autouse=True)
def _seed() -> Iterator[None]:
    torch.manual_seed(0)
    torch.set_num_threads(1)
    yield


def export(net: Any, shape: tuple[int, ...], exporter: str, path: Path, shared: tuple[str, ...]) -> bytes:
    """As a user exports, with a card written into the file afterwards."""
    x, names = torch.randn(3, *shape), {"input_names": ["x"], "output_names": ["y"]}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the exporters' own making
        if exporter == "dynamo":
            counterpart("onnxscript")
            batch = torch.export.Dim("n", min=1, max=4096)
            torch.onnx.export(net, (x,), path, dynamo=True, dynamic_shapes=({0: batch},), verbose=False, **names)
        else:
            buffer = io.BytesIO()
            axes = {"x": {0: "n"}, "y": {0: "n"}}
            torch.onnx.export(net, (x,), buffer, dynamo=False, dynamic_axes=axes, opset_version=17, **names)
            path.write_bytes(buffer.getvalue())
    model = onnx.load(path)
    write_card(model, msgspec.structs.replace(CARD, shared=shared))
    path.write_bytes(model.SerializeToString())
    return read_model(path)


def matched(graph: TrainableGraph, net: Any) -> list[tuple[slice, Any, Callable[[np.ndarray], np.ndarray]]]:
    """(place in the flat vector, the parameter of PyTorch, how ours is laid out there), found by their values.

    Exporters transpose weights and stack gates: those are matched one way or the other, or not at all.
    """
    found = []
    for tensor in graph.layout:
        place = slice(tensor.start, tensor.stop)
        ours = graph.params[place].reshape(tensor.shape)
        for parameter in net.parameters():
            theirs = parameter.detach().numpy()
            if theirs.shape == ours.shape and np.array_equal(theirs, ours):
                found.append((place, parameter, lambda a: a))
            elif theirs.ndim == 2 and theirs.T.shape == ours.shape and np.array_equal(theirs.T, ours):
                found.append((place, parameter, np.transpose))
            elif theirs.size == ours.size and np.array_equal(theirs.ravel(), ours.ravel()):
                found.append((place, parameter, np.ravel))
    return found


@pytest.mark.parametrize("exporter", EXPORTERS)
@pytest.mark.parametrize("name", NETS)
def test_exported_network_trains_as_in_pytorch(name: str, exporter: str, tmp_path: Path) -> None:
    kind, make = NETS[name]
    net = make().eval()
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.2)  # none is like another
    shared = ("layer.*",) if name == "shared" else ()
    data = export(net, SHAPES[kind], exporter, tmp_path / "m.onnx", shared)
    graph, x = TrainableGraph.load(data), np.random.default_rng(1).normal(size=(6, *SHAPES[kind])).astype(np.float32)
    graph.probe()
    y = graph.forward(x).copy()
    np.testing.assert_allclose(y, run_ort(data, x), rtol=1e-5, atol=1e-5)
    labels = torch.tensor([0, 1, 2, 0, 1, 2])
    out = net(torch.from_numpy(x))
    torch.nn.functional.cross_entropy(out, labels).backward()
    np.testing.assert_allclose(y, out.detach().numpy(), rtol=1e-5, atol=1e-5)
    p = torch.softmax(out, dim=1).detach().numpy()
    graph.forward(x)
    graph.backward(((p - np.eye(3, dtype=np.float32)[labels.numpy()]) / len(x)).astype(np.float32))
    pairs = matched(graph, net)
    assert len(pairs) >= 2, [t.name for t in graph.layout]
    for place, parameter, laid in pairs:
        theirs = laid(parameter.grad.numpy()).ravel()
        np.testing.assert_allclose(graph.grad[place], theirs, rtol=1e-4, atol=1e-6)
    if graph.params.size != sum(p.numel() for p in net.parameters()):
        return  # the exporter has folded a normalisation away, or made weights of its ones and zeros: other steps
    graph.params -= np.float32(0.1) * graph.grad
    torch.optim.SGD(net.parameters(), lr=0.1).step()
    after = net(torch.from_numpy(x)).detach().numpy()
    np.testing.assert_allclose(graph.forward(x), after, rtol=1e-5, atol=1e-5)


def test_network_exported_in_training_mode_keeps_its_batch_norm(tmp_path: Path) -> None:
    """What `batch_norm = "updated"` needs: in evaluation mode the exporter folds it into the convolution."""
    net = nn.Sequential(nn.Conv1d(3, 4, 3), nn.BatchNorm1d(4), nn.ReLU(), nn.Dropout(0.5), nn.Flatten())
    net, x = nn.Sequential(net, nn.Linear(120, 3)).train(), torch.randn(5, 3, 32)
    path, axes = tmp_path / "m.onnx", {"x": {0: "n"}, "y": {0: "n"}}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the exporter's own making
        torch.onnx.export(
            net, (x,), path, dynamo=False, training=torch.onnx.TrainingMode.TRAINING, do_constant_folding=False,
            dynamic_axes=axes, opset_version=17, input_names=["x"], output_names=["y"],
        )  # fmt: skip
    model = onnx.load(path)
    write_card(model, msgspec.structs.replace(CARD, batch_norm="updated"))
    path.write_bytes(model.SerializeToString())
    data = read_model(path)
    graph = TrainableGraph.load(data)
    assert graph.statistics is not None and graph.statistics.sum() == 8
    expected = net.eval()(x).detach().numpy()
    np.testing.assert_allclose(run_ort(data, x.numpy()), expected, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(graph.forward(x.numpy()), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("fresh", [True, False])
def test_network_exported_as_documented_keeps_its_batch_norm_with_its_own_statistics(
    fresh: bool, tmp_path: Path
) -> None:
    """As docs/data-scientist/own-model.md says: tracing in training mode would move them towards the example."""
    inner = nn.Sequential(nn.Conv1d(3, 4, 3), nn.BatchNorm1d(4, momentum=0.3), nn.ReLU(), nn.Flatten())
    net, x = nn.Sequential(inner, nn.Linear(120, 3)), 1 + torch.randn(5, 3, 32)
    if not fresh:
        net.train()(x)
    net.eval()
    before = {k: v.clone() for k, v in net.state_dict().items()}
    path, axes = tmp_path / "m.onnx", {"x": {0: "n"}, "y": {0: "n"}}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the exporter's own making
        torch.onnx.export(
            net, (x[:2],), path, dynamo=False, training=torch.onnx.TrainingMode.PRESERVE, do_constant_folding=False,
            dynamic_axes=axes, opset_version=17, input_names=["x"], output_names=["y"],
        )  # fmt: skip
    assert all(torch.equal(v, before[k]) for k, v in net.state_dict().items())
    model = onnx.load(path)
    write_card(model, msgspec.structs.replace(CARD, batch_norm="updated"))
    path.write_bytes(model.SerializeToString())
    data = read_model(path)
    graph = TrainableGraph.load(data)
    assert graph.statistics is not None and graph.statistics.sum() == 8
    expected = net(x).detach().numpy()
    np.testing.assert_allclose(run_ort(data, x.numpy()), expected, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(graph.forward(x.numpy()), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("exporter", EXPORTERS)
@pytest.mark.parametrize("name", NETS)
def test_export_with_default_arguments_takes_any_batch_and_a_gateways_windows(
    name: str, exporter: str, tmp_path: Path
) -> None:
    """A batch of one, names and opset as the exporter likes them; of a fresh network many tensors are equal."""
    kind, make = NETS[name]
    net, shape = make().eval(), SHAPES[kind]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the exporters' own making
        if exporter == "dynamo":
            counterpart("onnxscript")
        torch.onnx.export(
            net, (torch.randn(1, *shape),), tmp_path / "m.onnx", dynamo=exporter == "dynamo", verbose=False
        )
    time_first = kind == "series"
    length = shape[0] if time_first else shape[-1] if kind == "wave" else 1
    count = shape[1] if time_first else shape[0] if kind != "image" else 1  # two colours: a card that says nothing
    channels, shared = tuple(Channel(f"c{i}") for i in range(count)), ("layer.*",) if name == "shared" else ()
    card = msgspec.structs.replace(CARD, channels=channels, window=WindowSpec(1, length, 1), shared=shared)
    loaded = load(tmp_path / "m.onnx", card)
    x = np.random.default_rng(1).normal(size=(5, *shape)).astype(np.float32)
    expected = net(torch.from_numpy(x)).detach().numpy()
    given = np.swapaxes(x, 1, 2) if time_first else x
    np.testing.assert_allclose(loaded.graph.forward(given), expected, rtol=1e-4, atol=1e-4)
    assert loaded.graph.shared == () or shared
    check_gradient(onnx.ModelProto.FromString(loaded.to_bytes()), given, count=20)
