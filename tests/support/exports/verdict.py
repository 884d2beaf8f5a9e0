# SPDX-License-Identifier: Apache-2.0
"""What comes of an exported file: it trains as in PyTorch, it is refused in words, or something about it is wrong.

Held for each file: the output is PyTorch's and ONNX Runtime's; the gradient is autograd's in float64, and where no
parameter of PyTorch stands for a tensor, the difference quotient; it trains whole and by its head; the file that was
trained gives in ONNX Runtime what it gives here.
"""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnxruntime
from fedge_agent.learning.serving import Session
from fedge_models.errors import ModelError
from fedge_models.graph.intake import read_model
from fedge_models.graph.trainable import TrainableGraph
from fedge_models.model import Model
from fedge_models.training.config import TrainingConfig
from numpy.typing import NDArray

from support.counterparts import counterpart

from .exporting import Way, export, free, made
from .leaving_out import dropped, kept
from .matching import matched
from .network import Network
from .parts import NOT_EXPORTED, REFUSED, TRAINS, WRONG, line

torch = counterpart("torch")

Rows = NDArray[Any]


class Wrong(Exception):  # a verdict, not an error of this program
    """What came out is not what PyTorch gives."""


class Outcome(NamedTuple):
    """What came of one network, exported in one way."""

    network: str
    way: Way
    verdict: str  # of the whole network trained
    why: str = ""
    head: str = TRAINS  # with the head trained alone
    held: float = 0.0  # share of the parameters whose gradient was held against autograd
    free: bool = False  # whether the file says that its batch may have any size


def outcome(name: str, network: Network, way: Way, folder: Path) -> Outcome:
    """Export and try one network."""
    path, net = folder / "net.onnx", made(network, way.state)
    try:
        export(net, network, way, path)
    except Exception as e:  # the exporter's own
        return Outcome(name, way, NOT_EXPORTED, line(e), NOT_EXPORTED)
    return _tried(Outcome(name, way, TRAINS, free=free(path)), path, network, net)


def _tried(found: Outcome, path: Path, network: Network, net: Any) -> Outcome:
    try:
        found = found._replace(held=_whole(path, network, net))
    except ModelError as e:
        return found._replace(verdict=REFUSED, why=line(e), head=REFUSED)
    except Wrong as e:
        return found._replace(verdict=WRONG, why=line(e), head=WRONG)
    try:
        _head(path, network, net)
    except (ModelError, Wrong) as e:
        verdict = WRONG if isinstance(e, Wrong) else REFUSED
        return found._replace(why=f"by its head: {line(e)}", head=verdict)
    return found


def _whole(path: Path, network: Network, net: Any) -> float:
    data = read_model(path, network.card())
    model = Model(data, str(path))
    model.graph.probe()
    rng = np.random.default_rng(1)
    rows = rng.normal(size=(network.rows, *network.sample())).astype(np.float32)
    if model.graph.input_shape != network.sample():
        raise Wrong(f"takes {model.graph.input_shape}, a gateway gives {network.sample()}")
    _same_outputs(model, data, network, net, rows)
    held = _same_gradients(path, data, network, net, rows, rng)
    _trains(model, data, network, rows, rng)
    return held


def _head(path: Path, network: Network, net: Any) -> None:
    names = [n for n, _ in net.named_parameters()]
    globs = network.head or names[-1].rpartition(".")[0] + ".*"
    data = read_model(path, network.card(), globs)
    model = Model(data, str(path))
    model.graph.probe()
    wanted = sum(p.numel() for n, p in net.named_parameters() if any(_of(n, g) for g in globs.split(",")))
    if model.graph.params.size < wanted - dropped(net, path):
        raise Wrong(f"{globs} matches {model.graph.params.size} of {wanted} parameters")
    rng = np.random.default_rng(2)
    rows = rng.normal(size=(network.rows, *network.sample())).astype(np.float32)
    _trains(model, data, network, rows, rng)


def _of(name: str, glob: str) -> bool:
    return name.startswith(glob.rstrip("*"))


def _theirs(net: Any, network: Network, rows: Rows, dtype: Any = torch.float32) -> Any:
    """What PyTorch gives for rows as a gateway has them: probabilities of labels, else the output."""
    x = torch.from_numpy(rows.swapaxes(1, 2).copy() if network.kind == "series" else rows).to(dtype)
    y = net(x)
    y = y[0] if isinstance(y, tuple) else y
    if network.outputs == -1 and network.kind == "series":
        return y.transpose(1, 2)
    if network.outputs > 0:
        return y.reshape(len(rows), -1)
    if network.outputs == -1:
        return y
    if network.several:
        return torch.sigmoid(y) if network.gives == "logits" else y
    if y.shape[1] == 1:
        p = torch.sigmoid(y) if network.gives == "logits" else y
        return torch.cat([1 - p, p], dim=1)
    return torch.softmax(y, dim=1) if network.gives == "logits" else y


def _ours(graph: TrainableGraph, rows: Rows) -> Rows:
    """The same from a graph."""
    if graph.card.task == "multilabel":
        return 1 / (1 + np.exp(-graph.forward(rows)))
    return _softmax(graph.logits(rows)) if graph.card.task == "classify" else graph.forward(rows).copy()


def _softmax(z: Rows) -> Rows:
    e = np.exp(z - z.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


def _session(data: bytes, rows: Rows) -> Rows:
    session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
    return session.run(None, {session.get_inputs()[0].name: rows})[0]


def _same_outputs(model: Model, data: bytes, network: Network, net: Any, rows: Rows) -> None:
    with torch.no_grad():
        theirs = _theirs(net, network, rows).numpy()
    _close(_ours(model.graph, rows), theirs, "the output is not PyTorch's")
    _close(model.graph.forward(rows), _session(data, rows), "the output is not ONNX Runtime's")


def _close(got: Rows, expected: Rows, what: str, tolerance: float = 1e-4) -> None:
    if got.shape != expected.shape:
        raise Wrong(f"{what}: shape {got.shape}, expected {expected.shape}")
    error, size = float(np.abs(got - expected).max()), float(np.abs(expected).max())
    if not error <= tolerance * (size + 1e-3):
        raise Wrong(f"{what}: off by {error / size:.1e} of the largest value")


class Loss(NamedTuple):
    """The loss that gradients are compared by: cross entropy of labels, else a weighted sum of the outputs.

    Where several labels may hold, it is that of each by itself, as BCEWithLogitsLoss.
    """

    labels: NDArray[np.int64]
    weight: Rows
    several: bool = False

    @classmethod
    def of(cls, network: Network, shape: tuple[int, ...], rng: np.random.Generator) -> Loss:
        if network.several:
            return cls(_targets(network, rng), np.zeros(shape), True)
        labels = np.arange(shape[0]) % shape[1] if network.outputs == 0 else np.zeros(0, np.int64)
        return cls(labels, rng.normal(size=shape) / np.sqrt(np.prod(shape)))

    def of_theirs(self, y: Any) -> Any:
        if self.several:
            return torch.nn.functional.binary_cross_entropy(y, torch.from_numpy(self.labels).to(y.dtype))
        if self.labels.size:
            return -torch.log(y[torch.arange(len(y)), torch.from_numpy(self.labels)]).mean()
        return (y * torch.from_numpy(self.weight)).sum()

    def of_ours(self, graph: TrainableGraph, rows: Rows) -> tuple[float, Rows]:
        """The loss of a graph, and its gradient (P,)."""
        y = _ours(graph, rows)
        if self.several:
            graph.backward(np.asarray((y - self.labels) / y.size, graph.params.dtype))
            return float(-np.log(np.where(self.labels, y, 1 - y)).mean()), graph.grad.copy()
        if not self.labels.size:
            graph.backward(np.asarray(self.weight, graph.params.dtype))
            return float((y * self.weight).sum()), graph.grad.copy()
        graph.backward(np.asarray((y - np.eye(y.shape[1])[self.labels]) / len(y), graph.params.dtype))
        return float(-np.log(y[np.arange(len(y)), self.labels]).mean()), graph.grad.copy()


def _same_gradients(path: Path, data: bytes, network: Network, net: Any, rows: Rows, rng: np.random.Generator) -> float:
    """Compare gradients in float64; return the share of the parameters that was held against autograd."""
    graph, exact = TrainableGraph.load(data, dtype=np.float64), copy.deepcopy(net).double()
    rows = rows.astype(np.float64)
    theirs = _theirs(exact, network, rows, torch.float64)
    loss = Loss.of(network, tuple(theirs.shape), rng)
    loss.of_theirs(theirs).backward()
    (_, grad), (known, expected) = loss.of_ours(graph, rows), matched(graph, net, exact)
    scale = float(np.abs(grad).max()) + 1e-12
    error = np.where(known, np.abs(grad - expected), 0.0)
    if error.max() > 1e-4 * scale:
        worst = int(error.argmax())
        name = next(t.name for t in graph.layout if t.start <= worst < t.stop)
        raise Wrong(f"gradient of {name} is not autograd's: off by {error.max() / scale:.1e} of the largest")
    if not known.all():
        _quotient(graph, rows, loss, ~known, rng)
    wanted = kept(net, exact, path)
    if graph.params.size < wanted:
        raise Wrong(f"{graph.params.size} parameters are trained of the {wanted} that the exporter left")
    return float(known.mean())


def _quotient(
    graph: TrainableGraph, rows: Rows, loss: Loss, where: NDArray[np.bool_], rng: np.random.Generator
) -> None:
    """Compare the slope along a random direction with the central difference of the loss."""
    begin = graph.params + 1e-3 * rng.normal(size=where.size)  # a fresh network stands on the kinks of its ReLUs
    direction = np.where(where, rng.normal(size=where.size), 0.0)
    direction /= np.linalg.norm(direction)
    graph.params[...] = begin
    slope, step = float(loss.of_ours(graph, rows)[1] @ direction), 1e-6
    losses = []
    for sign in (1, -1):
        graph.params[...] = begin + sign * step * direction
        losses.append(loss.of_ours(graph, rows)[0])
    quotient = (losses[0] - losses[1]) / (2 * step)
    if abs(quotient - slope) > 1e-2 * (abs(quotient) + abs(slope)) + 1e-7:
        raise Wrong(f"slope of the rest is {slope:.3g}, the difference quotient {quotient:.3g}")


def _trains(model: Model, data: bytes, network: Network, rows: Rows, rng: np.random.Generator) -> None:
    """Train as `fedge-agent train` does, and run the file that comes out in ONNX Runtime.

    So does the session of a gateway, which has the file `data` as it was, and the new weights.
    """
    before, y = model.graph.params.copy(), _targets(network, rng)
    report = model.train(rows, y, TrainingConfig(epochs=2, batch=network.rows // 2))
    if report.diverged or not np.isfinite(model.graph.params).all():
        raise Wrong("training diverged")
    if np.array_equal(before, model.graph.params):
        raise Wrong("training changed nothing")
    _close(model.graph.forward(rows), _session(model.to_bytes(), rows), "the trained file differs in ONNX Runtime")
    gateway = Session(data, model.graph.initializers(model.graph.params))
    gateway.input[...] = rows[0]
    _close(gateway.run()[None], model.graph.forward(rows[:1]), "a gateway decides with other weights")


def _targets(network: Network, rng: np.random.Generator) -> Any:
    if network.outputs == -1:
        return None
    if network.several:  # no label, one, two or all of them
        return (np.arange(network.rows)[:, None] >> np.arange(len(network.labels))) & 1
    if network.outputs == 0:
        return np.arange(network.rows) % len(network.labels)
    return rng.normal(size=(network.rows, network.outputs))
