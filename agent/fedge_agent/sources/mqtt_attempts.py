# SPDX-License-Identifier: Apache-2.0
"""Read MQTT messages, and set aside those whose reading fails twice, in this process or in killed ones.

What failed is counted on the disk by `failed_messages`; the readings are `mqtt_payload`'s.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timezone

from fedge_models.errors import StorageError

from ..protocols.mqtt.connection import Message
from ..types import Reading, SourceHost
from .failed_messages import FailedMessages, digest_of, entry
from .mqtt_payload import Complaint, Reader

logger = logging.getLogger(__name__)

CAREFUL = 200  # messages after a kill that are read one by one, whatever the broker says of them
LOOK_S = 10.0  # how often it is seen that a person removed the file of messages set aside

Outcome = tuple[list[Reading], list[Complaint]]


class Attempts:
    """Reads messages, and sets aside those whose reading fails twice, in this process or in killed ones."""

    def __init__(self, reader: Reader, host: SourceHost) -> None:
        self._reader, self._host = reader, host
        self._failed = FailedMessages(host.folder)
        self._careful = CAREFUL if self._failed.crashed else 0  # so many messages more
        self._crashed = self._failed.crashed
        self._looked = 0.0

    def begin(self) -> None:
        """Before the first message."""
        self._report()
        with self._problem():
            self._failed.begin()

    def end(self) -> None:
        """After the last message."""
        with self._problem():
            self._failed.end()

    def look(self, now: float) -> None:
        """Withdraw the problem once the file is gone. now: monotonic, s."""
        if now - self._looked >= LOOK_S:
            self._looked = now
            self._report()

    def read(self, message: Message) -> Outcome | None:
        """Readings and complaints; empty for a message that is set aside, None when it cannot be.

        After a kill the message that ended the process is among those that are sent again (DUP), sent to each new
        subscriber (retained), or the first; each of these is marked before it is read.
        """
        suspect = self._crashed and (message.repeated or message.retain or self._careful > 0)
        self._careful -= 1
        digest = digest_of(message.topic, message.payload) if suspect or self._failed.any else ""
        if self._failed.failures(digest):
            return self._set_aside(digest, message, "the gateway ended each time when it read this message")
        if suspect:
            with self._problem():
                self._failed.mark(digest)
        try:
            outcome = self._reader.read(message.topic, message.payload, time.time_ns())
        except Exception as e:
            return self._read_again(message, e)
        if suspect:
            self._failed.forget(digest)
        return outcome

    def _read_again(self, message: Message, first: Exception) -> Outcome | None:
        """Read a message whose reading failed once, with that on the disk: this attempt may end the process."""
        digest = digest_of(message.topic, message.payload)
        logger.warning("topic %r: reading a message failed: %s; once more", message.topic, _name(first))
        with self._problem():
            self._failed.mark(digest)
        try:
            outcome = self._reader.read(message.topic, message.payload, time.time_ns())
        except Exception as e:
            logger.exception("topic %r: reading a message failed twice", message.topic)
            return self._set_aside(digest, message, f"reading it failed twice: {_name(e)}")
        self._failed.forget(digest)
        return outcome

    def _set_aside(self, digest: str, message: Message, why: str) -> Outcome | None:
        self._host.count("set_aside")
        at = datetime.now(timezone.utc).isoformat(timespec="seconds")
        try:
            dropped = self._failed.set_aside(digest, entry(at, message.topic, why, message.payload))
        except StorageError as e:
            self._host.problem("set aside", f"topic {message.topic!r}: {why}; it cannot be stored, and stays: {e}")
            return None
        if dropped:
            self._host.count("set_aside_dropped", dropped)
        self._report()
        return [], []

    def _report(self) -> None:
        with self._problem():
            count = self._failed.count()
            text = f"{count} messages could not be read, and are in {self._failed.path}; remove it when you are done"
            self._host.problem("set aside", text if count else None)

    @contextmanager
    def _problem(self) -> Iterator[None]:
        """State that marks cannot be stored; reading goes on."""
        try:
            yield
        except StorageError as e:
            self._host.problem("set aside", f"{e}; a message that ends the gateway would do so again")


def _name(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"[:200]
