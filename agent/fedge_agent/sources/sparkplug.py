# SPDX-License-Identifier: Apache-2.0
"""Read metrics of Sparkplug B edge nodes at an MQTT broker.

A tag is "group/node/device/metric", or "group/node//metric" for a metric of the node itself. The source is a host
application in Sparkplug's terms: it requests births when it needs them, and with `host_id` publishes that it is online.
Leaves the meaning of messages to `protocols.sparkplug`, and the connection to `protocols.mqtt`. No message is
acknowledged late or replayed: Sparkplug's data are QoS 0, and after a loss a rebirth is requested.
"""

from __future__ import annotations

import queue
import time
from collections.abc import Sequence

import msgspec
from fedge_models.errors import ConfigError, RefusedError, UnreachableError, WireError
from fedge_models.system.addresses import shown
from fedge_models.system.settings import Seconds

from ..protocols.mqtt.broker import Broker, check_broker, session_claims
from ..protocols.mqtt.connection import Connection, Message, Will
from ..protocols.sparkplug import topics
from ..protocols.sparkplug.host_view import HostView, Outcome
from ..protocols.sparkplug.metrics import Historical
from ..protocols.sparkplug.node_view import Patience
from ..types import Reading, Source, SourceHost

MAX_WAITING = 10_000  # messages between the network's thread and ours; more are lost, and their seq shows it
LOOK_S = 0.2
ALIVE_S = 1.0  # how often to report that nothing has changed
REFUSAL_S = 10.0  # how often to report the last refusal
CHUNK = 200  # messages handed over at once


class SparkplugConfig(Broker, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """``[source.X] type = "sparkplug"``."""

    host_id: str = ""  # publish at spBv1.0/STATE/<host_id> that we are online; edge nodes may wait for it
    reorder_timeout: Seconds = Seconds(2)  # how long a missing message is waited for
    rebirth_interval: Seconds = Seconds(10)  # least time between two requests for an edge node's births
    rebirth_timeout: Seconds = Seconds(5)  # a node that may be dead has so long to answer
    max_silence: Seconds = Seconds(300)  # after so long a silent node is asked whether it is alive; 0: never


class SparkplugSource(Source):
    """Reads metrics of the edge nodes that its tags name."""

    Config = SparkplugConfig

    def __init__(self, name: str, config: SparkplugConfig) -> None:
        check_broker(config, f"source.{name}")
        if config.host_id and not topics.is_id(config.host_id):
            raise ConfigError(f"source.{name}: host_id {config.host_id!r}: expected text without +, # and /")
        self._config = config
        self.claims = session_claims(config)
        self._view: HostView | None = None  # outlives connections: what is unknown since a death stays so

    def run(self, tags: Sequence[str], host: SourceHost) -> None:
        """One connection, until `host.stop` or trouble. Raises UnreachableError or ConfigError."""
        if self._view is None:
            self._view = HostView(tags, _patience(self._config))
        _Session(self._config, self._view, host).run()

    def leave_no_trace(self) -> None:
        """Be no primary host, and connect under another id; births are still asked for where they are needed."""
        self._config = msgspec.structs.replace(self._config, client_id="", host_id="")

    def check(self, tags: Sequence[str]) -> list[str]:
        """Connect and subscribe; nothing is published, so no births are requested."""
        try:
            view = HostView(tags, _patience(self._config))
        except ConfigError as e:
            return [str(e)]
        connection = Connection(msgspec.structs.replace(self._config, client_id=""), clean=True)
        try:
            connection.open()
            return [f"{f}: {why}" for f, why in connection.subscribe(view.subscriptions()).items()]
        except (UnreachableError, ConfigError) as e:
            return [str(e)]
        finally:
            connection.close()


class _Session:
    """One connection, in the source's thread; the network's thread only fills the queue of messages."""

    def __init__(self, config: SparkplugConfig, view: HostView, host: SourceHost) -> None:
        self._config, self._view, self._host = config, view, host
        self._messages: queue.Queue[Message] = queue.Queue(MAX_WAITING)
        self._began_ms = _wall_ms()
        self._state = topics.state_topic(config.host_id)
        dead = Will(self._state, topics.write_state(False, self._began_ms), 1, True)
        self._connection = Connection(config, self._arrived, dead if config.host_id else None, clean=True)
        self._overrun = 0  # messages that found the queue full; counted in the source's thread
        self._alive_at = self._refusal_at = 0.0

    def run(self) -> None:
        """Until `host.stop` or trouble."""
        try:
            self._connection.open()
            self._subscribe()
            self._announce(True)
            self._host.problem("connection", None)
            self._hand_over(self._view.connected(time.monotonic(), _wall_ms()))
            while not self._host.stop.is_set():
                self._connection.check()
                self._turn()
            self._announce(False)
        finally:
            self._connection.close()

    def _arrived(self, message: Message) -> None:
        """Queue a message from the network's thread. Never blocks."""
        try:
            self._messages.put_nowait(message)
        except queue.Full:
            self._overrun += 1

    def _subscribe(self) -> None:
        filters = self._view.subscriptions()
        refused = self._connection.subscribe(filters + ([self._state] if self._config.host_id else []))
        for filter_, why in refused.items():
            self._host.problem(filter_, f"{shown(self._config.url)}: cannot subscribe to {filter_}: {why}")
        if set(filters) <= set(refused):
            raise ConfigError(f"{shown(self._config.url)}: no subscription is granted: {next(iter(refused.values()))}")

    def _announce(self, online: bool) -> None:
        """Publish our STATE (4.3), retained: online with the time of the connection, offline with the time of now."""
        if not self._config.host_id:
            return
        data = topics.write_state(online, self._began_ms if online else max(_wall_ms(), self._began_ms))
        try:
            self._connection.wait([self._connection.publish(self._state, data, 1, True)])
            self._host.problem("host_id", None)
        except RefusedError as e:
            self._host.problem("host_id", f"{self._state}: {e}")

    def _turn(self) -> None:
        """Read the messages that arrived, and hand over the outcome."""
        outcome, now = Outcome(), time.monotonic()
        for message in self._waiting():
            self._connection.acknowledge([message])
            if message.topic == self._state and self._config.host_id:
                self._own_state(message)
            else:
                outcome.add(self._view.take(message.topic, message.payload, message.retain, now, _wall_ms()))
        outcome.add(self._view.tick(now, _wall_ms()))
        if self._overrun:
            self._host.count("lost because we were too slow", self._overrun)
            self._overrun = 0
        self._hand_over(outcome)

    def _waiting(self) -> list[Message]:
        messages: list[Message] = []
        try:
            messages.append(self._messages.get(timeout=LOOK_S))
            while len(messages) < CHUNK:
                messages.append(self._messages.get_nowait())
        except queue.Empty:
            pass
        return messages

    def _own_state(self, message: Message) -> None:
        """Correct a STATE that calls us offline, such as the Will of an earlier connection of ours."""
        try:
            offline = not topics.read_state(message.payload).online
        except WireError:
            offline = True
        if offline and not message.retain:
            self._announce(True)

    def _hand_over(self, outcome: Outcome) -> None:
        for topic, data in outcome.requests:
            self._connection.publish(topic, data, 0)
        for subject, text in outcome.problems.items():
            self._host.problem(subject, text)
        for what, number in self._view.counts.take_unusable().items():
            self._host.count(what, number)
        now = time.monotonic()
        if outcome.readings or now >= self._alive_at:
            self._alive_at = now + ALIVE_S
            history = [r for r in outcome.readings if isinstance(r, Historical)]
            if history:
                self._host.emit(history, history=True)
            readings: list[Reading] = [r for r in outcome.readings if not isinstance(r, Historical)]
            for alive in self._view.alive(now):
                own = [r for r in readings if r.tag in alive.tags]
                if own or alive.time_ns is not None:
                    self._host.emit(own, alive.time_ns, alive.unsure)
        if now >= self._refusal_at and self._view.counts.last_refusal:
            self._refusal_at = now + REFUSAL_S
            self._host.problem("input", f"the last input that was refused: {self._view.counts.last_refusal}")


def _patience(config: SparkplugConfig) -> Patience:
    waits = config.reorder_timeout, config.rebirth_interval, config.rebirth_timeout, config.max_silence
    return Patience(*map(float, waits))


def _wall_ms() -> int:
    return time.time_ns() // 1_000_000
