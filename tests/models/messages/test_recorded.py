# SPDX-License-Identifier: Apache-2.0
"""Messages and state files that commit ed800e3 wrote are read today, and messages are written to the same bytes."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from fedge_agent.durable.releases import ChainStore
from fedge_agent.learning import carry_over
from fedge_models.graph import zoo
from fedge_models.graph.card import Card, Channel, WindowSpec
from fedge_models.graph.trainable import TrainableGraph
from fedge_models.messages.invitation import Invitation, decode_invitation, encode_invitation
from fedge_models.messages.release import GENESIS, Release, encode_difference, encode_full, weights_hash
from fedge_models.messages.statistics import decode_site, decode_sites, encode_site, encode_sites
from fedge_models.messages.trust_chain import Anchor, verify_release
from fedge_models.messages.update import decode_update, encode_update
from fedge_models.statistics.histogram import Histogram
from support.paths import VECTORS

RECORDED: dict[str, str] = json.loads((VECTORS / "messages.json").read_text())
KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
SIZES = np.array([6, 2], np.int64)
ANCHOR = Anchor(KEY.public_key(), "pumps", bytes(range(32)), SIZES)
WEIGHTS = np.linspace(-1, 1, 8, dtype=np.float32)
STEPS = np.array([0.01, 0.02], np.float32)
CODES = np.array([1, 2, 3, 4, 5, 6, -7, -8], np.int8)


def recorded(name: str) -> bytes:
    return bytes.fromhex(RECORDED[name])


def releases() -> tuple[Release, Release]:
    first = verify_release(recorded("release_full"), ANCHOR, None, 1500)
    return first, verify_release(recorded("release_difference"), ANCHOR, first, 1500)


def test_a_recorded_update_is_read_and_written_to_the_same_bytes() -> None:
    got = decode_update(recorded("update"), KEY.public_key(), SIZES)
    assert (got.federation, got.node, got.base_version, got.base_hash) == ("pumps", "gw-1", 3, bytes(range(32)))
    assert (got.sequence, got.samples, got.metrics) == (17, 400, {"base_loss": 0.5, "local_loss": 0.25})
    assert got.codes.tolist() == [1, -2, 3, 0, 127, -127, 5, 6] and got.spread.tolist() == [0.5, 0.25]
    assert encode_update(got, KEY) == recorded("update")


def test_recorded_statistics_are_read_and_written_to_the_same_bytes() -> None:
    of_site = decode_site(recorded("site_statistics"), KEY.public_key(), 2)
    assert (of_site.node, of_site.sequence, of_site.windows) == ("gw-1", 17, 256) and of_site.channels[1] is None
    assert of_site.channels[0] == Histogram(-3, 64, bytes([20, 30, 155, 30, 20]))
    assert encode_site(of_site, KEY) == recorded("site_statistics")
    over = decode_sites(recorded("sites_statistics"), KEY.public_key(), 2)
    assert (over.number, over.created, over.sites) == (4, 1000, 5) and over.channels[0] is not None
    assert (
        over.channels[0].usual_spread == 2**0.375
        and over.channels[0].usual == (8.125, 8.375, 8.5)
        and over.channels[0].ranks == [2, 3, 4]
    )
    assert encode_sites(over, KEY) == recorded("sites_statistics")


def test_recorded_releases_are_verified_and_written_to_the_same_bytes() -> None:
    first, second = releases()
    assert first.weights.tobytes() == WEIGHTS.tobytes() and first.header.previous == GENESIS
    assert second.hash == recorded("hash_2") and second.header.weights == weights_hash(second.weights)
    assert second.header.figures == {"nodes": 3.0, "samples": 1200.0, "loss": 0.125}
    assert (
        second.header.rule == "trimmed_mean"
        and second.header.steps.tolist() == np.array([0.03, 0.5], np.float32).tolist()
    )
    assert encode_full(first.header, first.weights, KEY) == recorded("release_full")
    assert encode_difference(second.header, CODES, STEPS, KEY) == recorded("release_difference")


def test_a_recorded_invitation_is_read_and_written_to_the_same_text() -> None:
    got = decode_invitation(RECORDED["invitation"])
    url = "https://agg.plant.example:8443"
    assert got == Invitation(url, bytes(range(32)), bytes(range(16)), 1_800_000_000, "gw-1")
    assert encode_invitation(got) == RECORDED["invitation"]


def test_recorded_files_of_a_gateways_state_folder_are_read(tmp_path: Path) -> None:
    (tmp_path / "head.cbor").write_bytes(recorded("head_file"))
    (tmp_path / "tuned.bin").write_bytes(recorded("tuned_file"))
    store, (_, second) = ChainStore(tmp_path), releases()
    head = store.load("head", graph())
    assert head is not None and head.hash == second.hash and head.weights.tobytes() == second.weights.tobytes()
    tuned = store.load_tuned(second.hash, 8)
    assert tuned is not None and tuned.tobytes() == second.weights.tobytes()


def test_what_a_site_carried_over_is_read_and_written_to_the_same_bytes() -> None:
    mask = np.arange(8) >= 6
    got = carry_over.decode(recorded("carry_over"), graph(), mask)
    assert got.residual.tolist() == (np.arange(8) / 8).tolist() and got.version == 3
    assert got.own is not None and got.own.tolist() == [7, 8]
    assert got.encode() == recorded("carry_over")


def graph() -> TrainableGraph:
    """Two trainable tensors of 6 and 2 values."""
    channels = tuple(Channel(n) for n in "abc")
    card = Card("classify", channels, WindowSpec(1, 4, 2), ("mean",), ("ok", "bad"))
    return TrainableGraph.load(zoo.mlp(card, 3, ()).SerializeToString())
