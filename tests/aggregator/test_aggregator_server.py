"""The real listener with real TLS clients: enrolment, updates, and everything that must not get through."""

from __future__ import annotations

import hashlib
import http.client
import socket
import sqlite3
import ssl
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from fedge_agent import identity
from fedge_agent.uplink import Uplink
from fedge_aggregator import config as configs
from fedge_aggregator import nodes
from fedge_aggregator.app import App
from fedge_aggregator.models import add_model
from fedge_models import zoo
from fedge_models.card import Card, Channel, WindowSpec
from fedge_models.errors import IdentityError, RefusedError, StaleError, UnreachableError
from fedge_models.graph import TrainableGraph
from fedge_models.invitation import decode_invitation, encode_invitation
from fedge_models.quantize import LIMIT
from fedge_models.trust_chain import Anchor, Head, verify_release
from fedge_models.update import Update, encode_update

CARD = Card("anomaly", (Channel("a"), Channel("b")), WindowSpec(1, 10, 5), ("mean", "std"))
MODEL = zoo.autoencoder(CARD, 4, (3,)).SerializeToString()
GRAPH = TrainableGraph.load(MODEL)


class Plant:
    """An aggregator with two federations on a free port, and a way to enrol gateways."""

    def __init__(self, folder: Path, deadline: str = "0s", more: str = "", pumps: str = "quorum = 2") -> None:
        self.folder = folder
        (folder / "model.onnx").write_bytes(MODEL)
        (folder / "aggregator.toml").write_text(
            f'[aggregator]\nstate = "{folder}/state"\naddresses = ["127.0.0.1"]\nlisten = "127.0.0.1:0"\n'
            f'operator = "127.0.0.1:0"\n{more}\n'
            f'[federation.pumps]\n{pumps}\ndeadline = "{deadline}"\n[federation.fans]\nquorum = 2\n'
        )
        self.config = configs.load(folder / "aggregator.toml")
        self.app = App(self.config)
        for name in ("pumps", "fans"):
            if name not in {m.federation for m in self.app.store.models()}:
                federation = self.config.federation[name]
                add_model(self.app.store, self.app.authority, name, federation, folder / "model.onnx", time.time())
        self.app.start()
        self.url = f"https://{self.app.address}"

    def invite(self, node: str, lifetime: float = 60, federations: tuple[str, ...] = ("pumps",)) -> str:
        now = time.time()
        store, authority = self.app.store, self.app.authority
        return nodes.invite(store, authority, self.url, node, federations, int(now + lifetime), now)

    def enrol(self, node: str) -> identity.Identity:
        return identity.join(decode_invitation(self.invite(node)), self.folder / node)


@pytest.fixture
def plant(tmp_path: Path) -> Iterator[Plant]:
    made = Plant(tmp_path)
    yield made
    made.app.stop()


def head_of(who: identity.Identity, have: Head | None = None, federation: str = "pumps") -> Head:
    link = Uplink(who)
    body = link.fetch_release(federation, have.header.version if have else 0, 1 << 20)
    link.close()
    assert body is not None
    graph = hashlib.sha256(MODEL).digest()
    return verify_release(body, Anchor(who.release_key, federation, graph, GRAPH.sizes), have, time.time())


def update(who: identity.Identity, head: Head, sequence: int = 1, **changes: object) -> bytes:
    made = Update(
        federation="pumps",
        node=who.node,
        base_version=head.header.version,
        base_hash=head.hash,
        sequence=sequence,
        samples=100,
        metrics={"loss": 1.0},
        codes=np.full(len(GRAPH.params), 5, np.int8),
        spread=np.full(len(GRAPH.sizes), 0.1, np.float32),
    )
    return encode_update(replace(made, **changes), who.key)


def submit(who: identity.Identity, body: bytes) -> None:
    link = Uplink(who)
    try:
        link.submit("pumps", body)
    finally:
        link.close()


def wait_for_release(plant: Plant, version: int) -> None:
    deadline = time.monotonic() + 10
    federation = plant.app.federation("pumps")
    assert federation is not None
    while federation.current.header.version < version:
        assert time.monotonic() < deadline, federation.round()
        time.sleep(0.01)


def test_two_gateways_make_a_release(plant: Plant) -> None:
    a, b = plant.enrol("a"), plant.enrol("b")
    first = head_of(a)
    np.testing.assert_array_equal(first.weights, GRAPH.params)
    submit(a, update(a, first))
    submit(b, update(b, first))
    wait_for_release(plant, 2)
    second = head_of(a, first)
    step = 0.1 / LIMIT
    np.testing.assert_allclose(second.weights - first.weights, 5 * step, rtol=0.02)
    late = head_of(b)
    assert late.weights.tobytes() == second.weights.tobytes()
    assert second.header.figures["nodes"] == 2


def test_release_that_is_held_is_not_sent_again(plant: Plant) -> None:
    with closing(Uplink(plant.enrol("a"))) as link:
        assert link.fetch_release("pumps", 1, 1 << 20) is None


def test_model_file_comes_whole(plant: Plant) -> None:
    with closing(Uplink(plant.enrol("a"))) as link:
        assert link.fetch_model("pumps") == MODEL


def test_exact_repeat_is_accepted_again_and_counts_once(plant: Plant) -> None:
    a = plant.enrol("a")
    plant.enrol("b")
    body = update(a, head_of(a))
    submit(a, body)
    submit(a, body)
    assert list(plant.app.store.updates.arrivals("pumps")) == ["a"]


def test_replayed_sequence_is_refused(plant: Plant) -> None:
    a, b = plant.enrol("a"), plant.enrol("b")
    first = head_of(a)
    submit(a, update(a, first, sequence=7))
    submit(b, update(b, first))
    wait_for_release(plant, 2)
    with pytest.raises(StaleError, match="replay"):
        submit(a, update(a, head_of(a, first), sequence=7, samples=5))


def test_second_update_in_a_round_is_refused(plant: Plant) -> None:
    a = plant.enrol("a")
    plant.enrol("b")
    head = head_of(a)
    submit(a, update(a, head))
    with pytest.raises(StaleError, match="one a round"):
        submit(a, update(a, head, sequence=2))


def test_update_against_an_unknown_base_is_refused(plant: Plant) -> None:
    a = plant.enrol("a")
    with pytest.raises(StaleError, match="not the one published here"):
        submit(a, update(a, head_of(a), base_hash=bytes(32)))


def test_update_in_anothers_name_is_refused(plant: Plant) -> None:
    a = plant.enrol("a")
    plant.enrol("b")
    with pytest.raises(RefusedError, match="came from a"):
        submit(a, update(a, head_of(a), node="b"))


def test_update_signed_by_another_key_is_refused(plant: Plant) -> None:
    a = plant.enrol("a")
    forged = update(replace(a, key=Ed25519PrivateKey.generate()), head_of(a))
    with pytest.raises(RefusedError, match="signature"):
        submit(a, forged)


def test_federation_of_others_is_closed(plant: Plant) -> None:
    with closing(Uplink(plant.enrol("a"))) as link, pytest.raises(IdentityError, match="has no federation"):
        link.fetch_model("fans")


def test_revoked_node_is_shut_out_at_once(plant: Plant) -> None:
    a = plant.enrol("a")
    link = Uplink(a)
    link.fetch_model("pumps")
    plant.app.store.revoke("a", time.time())
    with closing(link), pytest.raises(IdentityError, match="revoked"):
        link.fetch_model("pumps")


def test_spent_invitation_is_refused_to_another_key(plant: Plant, tmp_path: Path) -> None:
    text = plant.invite("a")
    identity.join(decode_invitation(text), tmp_path / "first")
    with pytest.raises(IdentityError, match="spent already"):
        identity.join(decode_invitation(text), tmp_path / "second")


def test_join_may_be_repeated_after_a_lost_answer(plant: Plant, tmp_path: Path) -> None:
    text = plant.invite("a")
    first = identity.join(decode_invitation(text), tmp_path / "a")
    (tmp_path / "a/identity/node.json").unlink()  # as if the answer had been lost
    again = identity.join(decode_invitation(text), tmp_path / "a")
    assert again.key.private_bytes_raw() == first.key.private_bytes_raw()


def test_expired_invitation_is_refused_on_both_sides(plant: Plant, tmp_path: Path) -> None:
    invitation = decode_invitation(plant.invite("a", lifetime=-5))
    with pytest.raises(IdentityError, match="expired"):
        identity.join(invitation, tmp_path / "a")
    forged = decode_invitation(encode_invitation(msgspec.structs.replace(invitation, expires=1 << 40)))
    with pytest.raises(IdentityError, match="expired"):
        identity.join(forged, tmp_path / "a")


def test_aggregator_with_another_ca_is_someone_in_between(plant: Plant, tmp_path: Path) -> None:
    invitation = msgspec.structs.replace(decode_invitation(plant.invite("a")), ca=bytes(32))
    with pytest.raises(IdentityError, match="someone is in between"):
        identity.join(invitation, tmp_path / "a")


def test_without_certificate_only_ca_and_join_answer(plant: Plant) -> None:
    context = ssl._create_unverified_context()
    link = identity.connection(plant.url, context)
    link.request("GET", "/v1/federations/pumps/model")
    answer = link.getresponse()
    assert answer.status == 403 and b"client certificate" in answer.read()
    link.close()


def raw(plant: Plant, data: bytes) -> bytes:
    """Send bytes over TLS without a certificate; what comes back until the end."""
    host, port = plant.app.address.rsplit(":", 1)
    context = ssl._create_unverified_context()
    with socket.create_connection((host, int(port)), 10) as plain, context.wrap_socket(plain) as link:
        got = b""
        try:
            link.sendall(data)
            while part := link.recv(65536):
                got += part
        except OSError:
            return got
    return got


def test_body_without_a_length_or_over_the_cap_is_refused_unread(plant: Plant) -> None:
    assert b" 411 " in raw(plant, b"POST /v1/join HTTP/1.1\r\nHost: x\r\n\r\n")
    assert b" 413 " in raw(plant, b"POST /v1/join HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999\r\n\r\n")
    chunked = b"POST /v1/join HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n"
    assert b" 411 " in raw(plant, chunked)


def test_endless_headers_end_the_connection(plant: Plant) -> None:
    assert b" 200 " not in raw(plant, b"GET /v1/ca HTTP/1.1\r\n" + b"X: " + b"y" * 100_000 + b"\r\n\r\n")


def test_noise_is_answered_with_an_error_or_nothing(plant: Plant) -> None:
    assert b" 200 " not in raw(plant, b"\x00\xff\r\n\r\n")


def test_silent_client_does_not_hold_up_the_others(plant: Plant) -> None:
    host, port = plant.app.address.rsplit(":", 1)
    silent = [socket.create_connection((host, int(port))) for _ in range(20)]
    began = time.monotonic()
    plant.enrol("a")
    assert time.monotonic() - began < 5
    for connection in silent:
        connection.close()


def test_slow_sender_is_cut_off(tmp_path: Path) -> None:
    plant = Plant(tmp_path, more='request_timeout = "1s"')
    host, port = plant.app.address.rsplit(":", 1)
    context = ssl._create_unverified_context()
    with socket.create_connection((host, int(port)), 10) as plain, context.wrap_socket(plain) as link:
        link.sendall(b"POST /v1/join HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n")
        began = time.monotonic()
        try:
            while time.monotonic() - began < 10:
                link.sendall(b"x")
                time.sleep(0.1)
        except OSError:
            pass
        assert time.monotonic() - began < 5
    plant.app.stop()


def test_restart_resumes_the_same_round(tmp_path: Path) -> None:
    plant = Plant(tmp_path)
    a, b = plant.enrol("a"), plant.enrol("b")
    head = head_of(a)
    submit(a, update(a, head))
    plant.app.stop()
    again = Plant(tmp_path)
    assert list(again.app.store.updates.arrivals("pumps")) == ["a"]
    moved = replace(b, url=again.url)
    submit(moved, update(moved, head))
    wait_for_release(again, 2)
    again.app.stop()


def test_sampled_round_tells_each_gateway_whether_it_is_asked(tmp_path: Path) -> None:
    plant = Plant(tmp_path, deadline="1h", pumps="quorum = 1\nshare = 0.5\nmargin = 0.0")
    gateways = {name: plant.enrol(name) for name in "abcd"}
    federation = plant.app.federation("pumps")
    assert federation is not None
    federation.step(time.time(), set(gateways))
    links = {name: Uplink(who) for name, who in gateways.items()}
    for link in links.values():
        assert link.fetch_release("pumps", 1, 1 << 20) is None  # said with a 304 too
    asked = [name for name, link in links.items() if link.asked("pumps")]
    assert asked == sorted(federation.round().asked) and len(asked) == 2
    head = head_of(gateways["a"])
    left = min(set(gateways) - set(asked))
    with pytest.raises(StaleError, match=f"node {left} is not asked"):
        submit(gateways[left], update(gateways[left], head))
    for name in asked:
        submit(gateways[name], update(gateways[name], head))
    wait_for_release(plant, 2)
    for link in links.values():
        link.close()
    plant.app.stop()


def test_unreachable_aggregator_says_so(plant: Plant) -> None:
    a = plant.enrol("a")
    nowhere = replace(a, url="https://127.0.0.1:9")
    with pytest.raises(UnreachableError, match=r"127\.0\.0\.1:9"):
        Uplink(nowhere).fetch_model("pumps")


def test_status_and_metrics_tell_of_the_round(plant: Plant) -> None:
    plant.enrol("a")
    status = plant.app.status()["federations"]
    assert set(status) == {"pumps", "fans"} and status["pumps"]["release"] == 1
    assert "0 of at least 2 updates; not heard from: a" in status["pumps"]["waiting"]


def test_metrics_are_those_of_the_moment(plant: Plant) -> None:
    a = plant.enrol("a")
    plant.enrol("b")
    body = update(a, head_of(a))
    for sent in (0, 1):
        page = http_get(plant, "/metrics")
        for name, value in (("round_updates", sent), ("nodes", 2), ("release", 1), ("quarantined", 0)):
            assert f'fedge_aggregator_{name}{{federation="pumps"}} {value:.1f}' in page
        submit(a, body)


def http_get(plant: Plant, path: str) -> str:
    host, _, port = (plant.folder / "state/status.addr").read_text().rpartition(":")
    with closing(http.client.HTTPConnection(host, int(port), timeout=5)) as page:
        page.request("GET", path)
        return page.getresponse().read().decode()


def test_updates_that_come_at_once_are_each_durable_before_they_are_accepted(tmp_path: Path) -> None:
    plant = Plant(tmp_path, deadline="1h")
    names = [f"n{i:02d}" for i in range(24)]
    everyone = [plant.enrol(n) for n in names]
    plant.enrol("absent")  # so that the round stays open
    head = head_of(everyone[0])
    links = [Uplink(who) for who in everyone]
    bodies = [update(who, head) for who in everyone]
    bodies[5] = update(everyone[5], head, base_hash=bytes(32))

    def send(i: int) -> list[str]:
        links[i].submit("pumps", bodies[i])
        with sqlite3.connect(plant.folder / "state/aggregator.sqlite") as db:  # as another process sees it
            return [node for (node,) in db.execute("SELECT node FROM updates WHERE node = ?", (names[i],))]

    with ThreadPoolExecutor(len(names)) as pool:
        sent = [pool.submit(send, i) for i in range(len(names))]
    for link in links:
        link.close()
    plant.app.stop()
    assert isinstance(sent.pop(5).exception(), StaleError)
    names.pop(5)
    assert [s.result() for s in sent] == [[n] for n in names]


# --- certificates -------------------------------------------------------------------------------------------------


def test_certificate_is_renewed_after_two_thirds_of_its_life_and_used(plant: Plant) -> None:
    who = plant.enrol("gw1")
    before = (who.folder / "cert.pem").read_bytes()
    link = Uplink(who)
    link.keep_certificate(time.time())
    assert (who.folder / "cert.pem").read_bytes() == before
    link.keep_certificate(who.renew_at)
    assert (who.folder / "cert.pem").read_bytes() != before
    assert link.fetch_release("pumps", 0, 1 << 20)  # with the new one
    link.close()
    again = identity.load(plant.folder / "gw1")
    assert again is not None and again.renew_at > time.time()


def test_certificate_is_not_renewed_for_another_key(plant: Plant) -> None:
    link = Uplink(replace(plant.enrol("gw1"), renew_at=0.0))
    link._identity = replace(link._identity, key=Ed25519PrivateKey.generate())
    with pytest.raises(IdentityError, match="same key"):
        link.keep_certificate(time.time())
    link.close()


def test_listener_gets_a_fresh_certificate_while_it_runs(plant: Plant) -> None:
    authority = plant.app.authority
    [path] = list((plant.folder / "state").rglob("server.pem"))
    old = path.read_bytes()
    authority.refresh(plant.app._server.context, ["127.0.0.1", "agg.example"])  # another name: as good as expired
    assert path.read_bytes() != old
    assert head_of(plant.enrol("gw1")).header.version == 1
