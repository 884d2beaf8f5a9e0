# SPDX-License-Identifier: Apache-2.0
"""The connection to a broker, against a real mosquitto: ways in, words for each way it fails, sessions."""

from __future__ import annotations

import queue
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from fedge_agent.protocols.mqtt.broker import Broker, check_broker
from fedge_agent.protocols.mqtt.connection import Connection, Message, Will
from fedge_models.errors import ConfigError, UnreachableError
from support.mosquitto import Authority, Mosquitto
from support.waiting import LONGEST_S, until


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mosquitto]:
    made = Mosquitto(tmp_path_factory.mktemp("broker"))
    yield made
    made.stop()


class Peer:
    """A connection that keeps what arrives."""

    def __init__(self, broker: Mosquitto, will: Will | None = None, **keys: Any) -> None:
        self.got: queue.Queue[Message] = queue.Queue()
        self.connection = Connection(Broker(**{**broker.keys, **keys}), self.got.put, will)
        try:
            self.connection.open()
        except BaseException:
            self.connection.close()
            raise

    def __enter__(self) -> Peer:
        return self

    def __exit__(self, *_: object) -> None:
        self.connection.close()

    def publish(self, topic: str, payload: bytes, retain: bool = False) -> None:
        self.connection.wait([self.connection.publish(topic, payload, retain=retain)])

    def next(self) -> Message:
        return self.got.get(timeout=LONGEST_S)

    def ended(self) -> str:
        return until(lambda: self.connection.lost, "the connection to be lost") or ""


WAYS: dict[str, Callable[[Mosquitto], dict[str, Any]]] = {
    "password": lambda b: {},
    "TLS and password": lambda b: {"url": f"mqtts://localhost:{b.tls}", "ca_file": b.authority.file},
    "client certificate": lambda b: {
        "url": f"mqtts://localhost:{b.mutual}",
        "ca_file": b.authority.file,
        "username": "",
        "password_file": None,
        **dict(zip(("certificate", "private_key"), b.authority.issue("gw"), strict=True)),
    },
}


@pytest.mark.parametrize("version", ["5", "3.1.1"])
@pytest.mark.parametrize("way", WAYS)
def test_message_goes_round(broker: Mosquitto, way: str, version: str) -> None:
    with Peer(broker, version=version, **WAYS[way](broker)) as peer:
        assert peer.connection.subscribe(["plant/+/t"]) == {}
        peer.publish("plant/a/t", b"21.5")
        got = peer.next()
        assert (got.topic, got.payload, got.qos, got.retain) == ("plant/a/t", b"21.5", 1, False)


def wrong(broker: Mosquitto, folder: Path) -> dict[str, tuple[dict[str, Any], str]]:
    (folder / "wrong").write_text("no\n")
    stranger = Authority(folder, "stranger")
    tls = {"url": f"mqtts://localhost:{broker.tls}", "ca_file": broker.authority.file}
    mutual = {"url": f"mqtts://localhost:{broker.mutual}", "ca_file": broker.authority.file}
    keys = dict(zip(("certificate", "private_key"), stranger.issue("gw"), strict=True))
    return {
        "password": ({"password_file": folder / "wrong"}, "user 'gw'"),
        "nobody": ({"username": "", "password_file": None}, "a client without username"),
        "unknown CA": ({**tls, "ca_file": stranger.file}, "unknown CA .*set ca_file"),
        "wrong host": ({**tls, "url": f"mqtts://127.0.0.1:{broker.tls}"}, "not for '127.0.0.1'"),
        "no TLS there": ({**tls, "url": f"mqtts://localhost:{broker.port}"}, "is this the TLS port"),
        "TLS there": ({"url": f"mqtt://localhost:{broker.tls}"}, "closed by the broker before it answered"),
        "no client certificate": (mutual, "want a client certificate"),
        "strange client certificate": ({**mutual, **keys}, "refuses our certificate"),
        "nobody listens": ({"url": "mqtt://127.0.0.1:9"}, "no broker listens there"),
        "no such host": ({"url": "mqtt://broker.invalid"}, "not known"),
    }


@pytest.mark.parametrize("version", ["5", "3.1.1"])
def test_each_way_to_fail_has_its_words(broker: Mosquitto, tmp_path: Path, version: str) -> None:
    for case, (keys, reason) in wrong(broker, tmp_path).items():
        with pytest.raises(UnreachableError, match=reason):
            Peer(broker, version=version, **keys)
            pytest.fail(case)


@pytest.mark.parametrize("version", ["5", "3.1.1"])
def test_second_client_with_our_id_is_named(broker: Mosquitto, version: str) -> None:
    with Peer(broker, version=version, client_id="twin") as first, Peer(broker, version=version, client_id="twin"):
        reason = first.ended()
        assert "twin" in reason and "another client" in reason
        with pytest.raises(UnreachableError, match="twin"):
            first.publish("plant/x", b"1")


@pytest.mark.parametrize("version", ["5", "3.1.1"])
def test_session_goes_on_where_it_was(broker: Mosquitto, version: str) -> None:
    keys: dict[str, Any] = {"version": version, "client_id": f"stored-{version}"}
    with Peer(broker, **keys) as peer, Peer(broker) as other:
        assert not peer.connection.session_present
        peer.connection.subscribe(["plant/stored"])
        other.publish("plant/stored", b"1")
        first = peer.next()  # not acknowledged
    with Peer(broker) as other:
        other.publish("plant/stored", b"2")
    with Peer(broker, **keys) as peer:
        assert peer.connection.session_present
        again, new = peer.next(), peer.next()
        assert (again.payload, again.repeated, again.mid) == (b"1", True, first.mid)
        assert new.payload == b"2"
        peer.connection.acknowledge([again, new])
    with Peer(broker, **keys) as peer, Peer(broker) as other:
        other.publish("plant/stored", b"3")
        assert peer.next().payload == b"3"


def test_what_the_access_list_forbids_is_reported(broker: Mosquitto) -> None:
    with Peer(broker) as peer:
        with pytest.raises(UnreachableError, match=r"a publication is refused: .*access list"):
            peer.publish("elsewhere/x", b"1")
        peer.publish("plant/x", b"1")


def test_broker_that_goes_away_ends_the_connection(tmp_path: Path) -> None:
    broker = Mosquitto(tmp_path)
    with Peer(broker) as peer:
        broker.kill()
        assert "lost" in peer.ended()
        with pytest.raises(UnreachableError, match="lost"):
            peer.publish("plant/x", b"1")


def test_will_is_published_when_we_are_lost_and_not_when_we_say_goodbye(broker: Mosquitto) -> None:
    with Peer(broker) as watch:
        watch.connection.subscribe(["plant/will"])
        with Peer(broker, Will("plant/will", b"polite")):
            pass
        with Peer(broker, Will("plant/will", b"gone")) as lost:
            lost.connection._client.socket().close()
            assert watch.next().payload == b"gone"


@pytest.mark.parametrize(
    ("keys", "reason"),
    [
        ({"url": "tcp://x"}, "expected mqtt://"),
        ({"url": "mqtt://x:port"}, "expected mqtt://"),
        ({"url": "mqtt://x", "password_file": Path("p")}, "without username"),
        ({"url": "mqtts://x", "certificate": Path("c")}, "one is missing"),
        ({"url": "mqtt://x", "ca_file": Path("c")}, "has no TLS"),
    ],
)
def test_keys_that_cannot_go_together(keys: dict[str, Any], reason: str) -> None:
    with pytest.raises(ConfigError, match=reason):
        check_broker(Broker(**keys), "agent.toml: key 'source.x'")


@pytest.mark.parametrize("key", ["ca_file", "certificate", "password_file"])
def test_absent_file_is_named(tmp_path: Path, key: str) -> None:
    keys: dict[str, Any] = {key: tmp_path / "absent", "private_key": tmp_path / "absent", "username": "x"}
    with pytest.raises(ConfigError, match="absent"):
        Connection(Broker(url="mqtts://localhost", **keys))
