# SPDX-License-Identifier: Apache-2.0
"""Store what a federation needs after a restart: the model file, the newest release, the release that serves.

Written through temp + fsync + rename before it is used; read back with the same distrust as from the network.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import cbor2
import numpy as np
from fedge_models.errors import RefusedError
from fedge_models.graph.trainable import TrainableGraph
from fedge_models.messages.arrays import to_bytes, to_floats
from fedge_models.messages.cbor import decode_cbor, encode
from fedge_models.messages.quantize import Floats
from fedge_models.messages.release import Release, decode_header, weights_hash
from fedge_models.system import files


class ChainStore:
    """The folder of one federation."""

    def __init__(self, folder: Path) -> None:
        files.make_folder(folder)
        self._folder = folder

    def graph_bytes(self) -> bytes | None:
        """The ONNX file, if there is one."""
        path = self._folder / "graph.onnx"
        return path.read_bytes() if path.exists() else None

    def save_graph(self, data: bytes) -> None:
        """Store the ONNX file."""
        files.write(self._folder / "graph.onnx", data)

    def save(self, name: str, release: Release) -> None:
        """Store a release as "head" (newest that is trusted) or "serving" (passed the canary)."""
        data = cbor2.dumps([encode(release.header), to_bytes(release.weights)])
        files.write(self._folder / f"{name}.cbor", data)

    def save_tuned(self, release: bytes, weights: Floats) -> None:
        """Store the weights to which the release with that hash was tuned here."""
        files.write(self._folder / "tuned.bin", release + to_bytes(weights))

    def load_tuned(self, release: bytes, size: int) -> Floats | None:
        """The locally tuned weights (size,); None when they belong to another release or are damaged."""
        path = self._folder / "tuned.bin"
        data = path.read_bytes() if path.exists() else b""
        if not data.startswith(release) or len(data) != len(release) + 4 * size:
            return None
        weights = to_floats(data[len(release) :])
        return weights if np.isfinite(weights).all() else None

    def load(self, name: str, graph: TrainableGraph) -> Release | None:
        """A stored release; None when there is none or the file is damaged."""
        path = self._folder / f"{name}.cbor"
        if not path.exists():
            return None
        try:
            header_bytes, weights_bytes = decode_cbor(path.read_bytes(), path.name)
            header = decode_header(header_bytes, graph.sizes)
            weights = to_floats(weights_bytes)
        except (RefusedError, ValueError, TypeError):
            return None
        if weights_hash(weights) != header.weights or len(weights) != len(graph.params):
            return None
        return Release(header, hashlib.sha256(header_bytes).digest(), weights)
