# SPDX-License-Identifier: Apache-2.0
"""Export a network as its user does: one call with the defaults, or with a batch of any size."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any, NamedTuple

import onnx

from support.counterparts import counterpart

from .network import Network

torch = counterpart("torch")
counterpart("onnxscript")


class Way(NamedTuple):
    """How a file is made."""

    exporter: str  # dynamo or torchscript
    batch: str  # default: as the example, one sample; dynamic: of any size, the example has two
    state: str  # fresh: as it was made; trained: after some steps

    def __str__(self) -> str:
        return ", ".join(self)


WAYS = (
    Way("dynamo", "default", "fresh"),
    Way("dynamo", "dynamic", "trained"),
    Way("torchscript", "default", "fresh"),
    Way("torchscript", "default", "trained"),
    Way("torchscript", "dynamic", "trained"),
)
STEPS, BATCH = 4, 8
SAMPLES = {"default": 1, "dynamic": 2}  # with one and a Dim, dynamo fixes the batch of recurrent networks


def made(network: Network, state: str) -> Any:
    """The network, ready to be exported, the same at each call."""
    torch.manual_seed(0)
    net = network.make()
    if state == "trained":
        _train(net.train(), network)
    return net.eval()


def _train(net: Any, network: Network) -> None:
    """Some steps, after which no parameter is like another and statistics have moved."""
    optimizer = torch.optim.SGD(net.parameters(), lr=0.02)
    for _ in range(STEPS):
        y = net(torch.randn(BATCH, *network.shape))
        parts = y if isinstance(y, tuple) else (y,)
        loss = sum(((p - torch.randn_like(p)) ** 2).mean() for p in parts)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimizer.step()
    with torch.no_grad():
        for parameter in net.parameters():  # also what got no gradient yet
            parameter.add_(torch.randn_like(parameter), alpha=0.01)


def export(net: Any, network: Network, way: Way, path: Path) -> None:
    """Write the file. Raises what the exporter raises."""
    x = (torch.randn(SAMPLES[way.batch], *network.shape),)
    dynamic = way.batch == "dynamic"
    more: dict[str, Any] = {}
    with _quiet():
        if way.exporter == "dynamo":
            more = {"dynamic_shapes": ({0: torch.export.Dim("n", min=1, max=4096)},)} if dynamic else {}
            torch.onnx.export(net, x, path, **more)
        else:
            more = {"input_names": ["x"], "dynamic_axes": {"x": {0: "n"}}} if dynamic else {}
            torch.onnx.export(net, x, str(path), dynamo=False, **more)


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the exporters' own lines and warnings."""
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), redirect_stdout(StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(logging.NOTSET)


def free(path: Path) -> bool:
    """Whether a file says that its batch may have any size."""
    (x,) = onnx.load(path, load_external_data=False).graph.input
    return not x.type.tensor_type.shape.dim[0].HasField("dim_value")
