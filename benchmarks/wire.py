# SPDX-License-Identifier: Apache-2.0
"""Bytes of a real update and release against float32: a model of 10^5 parameters, trained on the fans' vibration."""

from __future__ import annotations

from _common import arguments, finish, table  # isort: skip  # sets the BLAS threads first

import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from fedge_agent.config.schema import Training
from fedge_agent.learning.training import Data, train
from fedge_agent.learning.update import update_body
from fedge_aggregator.federation import publish
from fedge_fleet.data import recordings, site_data
from fedge_models.graph import zoo
from fedge_models.graph.card import Card, Channel, WindowSpec
from fedge_models.graph.trainable import TrainableGraph
from fedge_models.messages.update import decode_update

HIDDEN = (256, 256)


def main() -> None:
    """Run three rounds of one node, so that the grid has adapted; measure the last."""
    args = arguments(__doc__ or "", data=True)
    track = recordings.fan(args.data / "fan", 1.0, ["fan1-s1"])["fan1-s1"]
    channels = tuple(Channel(n, u) for n, u in track.channels)
    features = ("mean", "std", "rms", "peak", "crest", "kurtosis", "bands:16")
    card = Card("classify", channels, WindowSpec(200, 200, 100), features, recordings.FAN_STATES, "on")
    site = site_data.standardised(site_data.windows(track, card), card)
    x, y = site_data.trainable(site, card)
    graph = TrainableGraph.load(zoo.mlp(card, x.shape[1], HIDDEN).SerializeToString())
    key, data = Ed25519PrivateKey.generate(), Data(x, y)
    signer = publish.Signer("bench", bytes(32), key, 3600)
    release = publish.first_release(signer, graph.params.copy(), graph.sizes, 0)
    residual, rng = np.zeros_like(graph.params), np.random.default_rng(0)
    for sequence in range(3):
        trained = train(graph, release, data, data, data, Training(), rng, lambda: None)
        body, residual = update_body(release, trained, residual, graph.sizes, "node", sequence, key)
        update = decode_update(body, key.public_key(), graph.sizes)
        aggregate = update.codes.astype(np.float32)
        release = publish.next_release(signer, release, aggregate, [update.spread], graph.sizes, "fedavg", {}, 0)
    assert release.difference is not None
    float32 = 4 * len(graph.params)
    sizes = {"update": len(body), "release": len(release.difference), "full release": len(release.full)}
    table(["body", "bytes", "of float32"], [[k, str(v), f"{v / float32:.3f}"] for k, v in sizes.items()])
    figures = {
        "update_bytes_vs_float32": sizes["update"] / float32,
        "release_bytes_vs_float32": sizes["release"] / float32,
    }
    finish("wire", {**figures, "parameters": float(len(graph.params))}, args.json)


if __name__ == "__main__":
    main()
