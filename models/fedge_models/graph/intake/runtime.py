# SPDX-License-Identifier: Apache-2.0
"""Run a graph in ONNX Runtime while it is taken in: what it gives for a few samples is the truth about its shapes."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from ...errors import ModelError
from ...protos import FLOAT
from ..card import Card
from ..served_errors import explained
from ..skeleton import Weights, skeleton, weights

if TYPE_CHECKING:
    import onnx

Values = dict[str, NDArray[Any]]
EITHER = (  # of a square window
    "the input {name!r} takes {shape}, as many samples as channels, and nothing in the graph shows which comes first; "
    'write layout = "time_first" (Keras, batch_first) or layout = "channels_first" (Conv1d of PyTorch) on the card'
)
FILE_BYTES = 16 << 20  # from here on a file is large


def session(data: bytes, where: str) -> Any:
    """Open a session on the CPU, one thread, quiet. Raises ModelError when ONNX Runtime cannot take the file."""
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # on by default from 1.29
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4
    options.enable_cpu_mem_arena = False
    try:
        with _source(data) as source:
            return ort.InferenceSession(source, options, providers=["CPUExecutionProvider"])
    except Exception as e:  # onnxruntime's own exceptions have no common base
        raise ModelError(f"{where}: {explained(e)}") from e


@contextmanager
def _source(data: bytes) -> Iterator[bytes | str]:
    """A large file as a temporary file, where one can be written: from bytes it takes a third more memory."""
    if len(data) < FILE_BYTES:
        yield data
        return
    with TemporaryDirectory(prefix="fedge-", ignore_cleanup_errors=True) as folder:
        path, source = Path(folder, "model.onnx"), ""
        with suppress(OSError):
            path.write_bytes(data)
            source = str(path)
        yield source or data


def run(opened: Any, feeds: Mapping[str, NDArray[Any]], where: str) -> Values:
    """Return every output by name. Raises ModelError when the graph cannot be run with these inputs."""
    names = [o.name for o in opened.get_outputs()]
    try:
        return dict(zip(names, opened.run(names, dict(feeds)), strict=True))
    except Exception as e:  # as above
        raise ModelError(f"{where}: {explained(e)}") from e


class Opened:
    """A graph that can be run, with its large tensors beside it."""

    def __init__(
        self, model: onnx.ModelProto, where: str, beside: Weights | None = None, outputs: Sequence[str] = ()
    ) -> None:
        """Open the graph. Raises ModelError when ONNX Runtime cannot take it.

        beside: the large tensors, where `model` is a skeleton without them; outputs: others than the graph's own.
        """
        self._weights = weights(model) if beside is None else beside
        self._where = where
        light = model if beside is not None and not outputs else skeleton(model, self._weights, outputs)
        try:
            self._session = session(light.SerializeToString(), where)
        except ModelError:  # an operator may want its tensor to be constant
            if beside is not None or not self._weights:
                raise
            self._weights = {}
            self._session = session(skeleton(model, (), outputs).SerializeToString(), where)

    def run(self, feeds: Mapping[str, NDArray[Any]]) -> Values:
        """Return every output by name. Raises ModelError when the graph cannot be run with these inputs."""
        return run(self._session, {**self._weights, **feeds}, self._where)


def trace(model: onnx.ModelProto, feeds: Mapping[str, NDArray[Any]], where: str) -> Values:
    """Return every value that some node makes, by name. Raises ModelError as `Opened`."""
    names = dict.fromkeys(n for node in model.graph.node for n in node.output if n)
    return Opened(model, where, None, [*names]).run(feeds)


def single_input(model: onnx.ModelProto) -> onnx.ValueInfoProto | None:
    """The graph's input, if there is one only and it is float32."""
    stored = {t.name for t in model.graph.initializer}
    found = [v for v in model.graph.input if v.name not in stored]
    if len(found) != 1 or found[0].type.tensor_type.elem_type != FLOAT:
        return None
    return found[0]


def dims(value: onnx.ValueInfoProto) -> tuple[int, ...]:
    """The declared dimensions; 0 for one that is not fixed."""
    return tuple(int(d.dim_value) for d in value.type.tensor_type.shape.dim)


def window_shape(card: Card) -> tuple[int, ...] | None:
    """What a gateway gives for one sample; None where features are computed: how many is the agent's part."""
    if card.image is not None:
        return card.image.shape
    return None if card.features else (len(card.input_channels), card.window.length)
