# SPDX-License-Identifier: Apache-2.0
"""Pictures over MQTT: PNG, JPEG and raw, a hostile one in between, against a real mosquitto."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fedge_agent.durable.inbox import Inbox
from fedge_agent.protocols.mqtt.broker import Broker
from fedge_agent.protocols.mqtt.connection import Connection
from fedge_agent.sources.host import HostedSource, Queue
from fedge_agent.sources.mqtt import MqttConfig, MqttSource
from fedge_agent.sources.mqtt_payload import Payload, Reader
from fedge_agent.types import Quality
from fedge_agent.windows.pictures import RawFormat
from fedge_models.errors import ConfigError
from PIL import Image
from support.mosquitto import Mosquitto
from support.waiting import LONGEST_S

PIXELS = np.random.default_rng(0).integers(0, 256, (12, 16, 3), dtype=np.uint8)


def encoded(kind: str) -> bytes:
    file = io.BytesIO()
    Image.fromarray(PIXELS).save(file, kind)
    return file.getvalue()


def reader(**keys: Any) -> Reader:
    return Reader(["line/camera"], Payload(url="mqtt://x", payload="image", **keys))


def test_png_jpeg_and_raw() -> None:
    for kind in ("PNG", "JPEG"):
        (reading,), wrong = reader().read("line/camera", encoded(kind), 5)
        assert isinstance(reading.value, np.ndarray) and reading.value.shape == PIXELS.shape and not wrong
        assert (reading.tag, reading.time_ns, reading.quality) == ("line/camera", 5, Quality.GOOD)
    (reading,), wrong = reader(raw=RawFormat((12, 16, 3))).read("line/camera", PIXELS.tobytes(), 5)
    assert np.array_equal(reading.value, PIXELS) and not wrong


WRONG = {
    "empty": (b"", None, "no PNG or JPEG"),
    "cut off": (encoded("PNG")[:100], None, "cut off or damaged"),
    "JSON": (b'{"image": 1}', None, "no PNG or JPEG"),
    "raw of another size": (PIXELS.tobytes()[1:], RawFormat((12, 16, 3)), "575 bytes, expected 576"),
}


@pytest.mark.parametrize("name", WRONG)
def test_hostile_picture_is_a_bad_reading_and_a_complaint(name: str) -> None:
    payload, raw, words = WRONG[name]
    (reading,), (complaint,) = reader(raw=raw).read("line/camera", payload, 5)
    assert reading.quality is Quality.BAD and complaint.subject == "line/camera" and words in complaint.text


def test_raw_format_is_checked_before_anything_comes() -> None:
    with pytest.raises(ConfigError, match=r"raw\.shape"):
        reader(raw=RawFormat((0,)))


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Mosquitto]:
    made = Mosquitto(tmp_path)
    yield made
    made.stop()


def test_pictures_over_a_broker_are_stored_and_a_hostile_one_is_counted(broker: Mosquitto, tmp_path: Path) -> None:
    config = MqttConfig(**broker.keys, client_id="gateway", payload="image")
    queue, inbox = Queue(100), Inbox(tmp_path / "inbox.sqlite", 1 << 24, 3600.0)
    hosted = HostedSource("cam", MqttSource("cam", config), ["plant/camera"], queue, tmp_path, inbox)
    peer = Connection(Broker(**broker.keys))
    peer.open()
    for payload in (encoded("PNG"), encoded("PNG")[:50]):
        peer.wait([peer.publish("plant/camera", payload, retain=True)])
    hosted.start()  # has the retained one, which is cut off
    first = queue.get(LONGEST_S)
    assert first is not None and [r.quality for r in first.readings] == [Quality.BAD]
    assert hosted.status()["counts"] == {"unusable": 1} and "plant/camera" in hosted.status()["problems"]
    peer.wait([peer.publish("plant/camera", encoded("PNG"))])
    second = queue.get(LONGEST_S)
    assert second is not None and np.array_equal(second.readings[0].value, PIXELS)
    hosted.join(LONGEST_S)
    assert hosted.status()["problems"] == {}
    stored = [k.readings[0].value for k in inbox.replay()]
    assert len(stored) == 2 and np.array_equal(stored[1], PIXELS)
    peer.close()
    inbox.close()
