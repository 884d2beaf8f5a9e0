# SPDX-License-Identifier: Apache-2.0
"""A gateway that takes part in a federation without a network: its samples and its release lie on disk."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from fedge_agent.config.schema import ModelConfig, Training
from fedge_agent.durable.releases import ChainStore
from fedge_agent.durable.spool import Spool
from fedge_agent.federation.identity import Identity
from fedge_agent.federation.participant import Participant
from fedge_agent.samples.sample_table import Sample
from fedge_agent.samples.store import SampleStore
from fedge_models.graph import zoo
from fedge_models.graph.card import Card, Channel, WindowSpec
from fedge_models.graph.trainable import TrainableGraph
from fedge_models.messages.release import Release, header_hash
from fedge_models.messages.update import Update, decode_update
from fedge_models.privacy.budget import SitePrivacy
from fedge_models.system.settings import Positive, Seconds

from support.made_releases import make_release

CARD = Card("classify", (Channel("a"),), WindowSpec(1, 4, 2), ("mean", "std"), ("ok", "bad"), "ok", local="dense1.*")
KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))


def model() -> tuple[bytes, TrainableGraph, Release]:
    """A small model: its ONNX file, its graph, and release 3 of it."""
    data = zoo.mlp(CARD, 2, (8,)).SerializeToString()
    graph = TrainableGraph.load(data)
    steps = np.full(len(graph.sizes), 0.01, np.float32)
    return data, graph, make_release(graph.params.copy(), steps, 3, hashlib.sha256(data).digest())


class OfflineSite:
    """A folder with labelled samples, of which a fifth is held back, and `model`."""

    def __init__(self, folder: Path, samples: int = 80) -> None:
        self.data, self.graph, self.head = model()
        self.folder, self.spool = folder, Spool(folder / "s")
        ChainStore(folder / "models").save_graph(self.data)
        self.release(self.head.header.version)
        self.samples = SampleStore(folder / "samples", {"m": 1000})
        for i, row in enumerate(np.random.default_rng(0).normal(size=(samples, 2)).astype(np.float32)):
            self.samples.put(Sample("m", "pump", i, row, int(row[0] > 0), i % 5 == 0))
        self.samples.start()
        self.samples.stop()
        self.samples = SampleStore(folder / "samples", {"m": 1000})

    def close(self) -> None:
        """Close samples and spool."""
        self.samples.stop()
        self.spool.close()

    def release(self, version: int) -> None:
        """Save a newer release with the same weights."""
        header = msgspec.structs.replace(self.head.header, version=version)
        self.take(Release(header, header_hash(header), self.head.weights))

    def take(self, release: Release) -> None:
        """Save a release as the newest."""
        self.head = release
        ChainStore(self.folder / "models").save("head", release)

    def participant(
        self, privacy: SitePrivacy | None = None, training: Training | None = None, uplink: Any = None
    ) -> Participant:
        """A participant as the agent starts it; `uplink` stands for the aggregator."""
        training = training or Training(min_samples=40, interval=Seconds(0))
        how = ModelConfig(training=training, privacy=privacy, poll=Positive(0))
        who = Identity("https://h:1", "gw", ("m",), KEY, KEY.public_key(), 0.0, self.folder)
        made = Participant(
            "m", how, self.folder / "models", self.samples, self.spool, who, uplink,
            lambda *_: None, lambda _: False,
        )  # fmt: skip
        made.restore()
        made.model.rescale()
        return made

    def update(self) -> Update:
        """The newest update that waits to be sent."""
        pending = self.spool.update("m")
        assert pending is not None and pending.body is not None
        return decode_update(pending.body, KEY.public_key(), self.graph.sizes)
