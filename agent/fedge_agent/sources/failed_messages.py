# SPDX-License-Identifier: Apache-2.0
"""Messages whose reading failed: counted through kills, and set aside in a file when they failed twice.

A broker sends a message of QoS 1 again until it is acknowledged, also to the next process. A message that ends the
process (no memory, a fault in a library) would end every later one. Promises: the second attempt at a message is marked
on the disk before it is made; a message that failed twice is stored before it is acknowledged, and not read again. The
file is bounded: the oldest messages go first, and are counted.

While nothing fails, a connection costs two small writes and a message none.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from pathlib import Path

import msgspec
from fedge_models.errors import StorageError
from fedge_models.system import files
from fedge_models.system.structs import known

MARKS_FILE = "attempts.json"
SET_ASIDE_FILE = "set-aside.jsonl"
MAX_MESSAGES = 100
MAX_BYTES = 4 * 2**20  # of the file; a longer message is cut, with its length
MAX_MARKS = 1000
LIMIT = 2  # failures after which a message is not read again


@known
class Marks(msgspec.Struct):
    """What is known of earlier attempts."""

    reading: bool = False  # a connection is open: if a process finds this at its start, the one before was killed
    failed: dict[str, int] = {}  # digest of a message -> attempts that were begun and not ended


@known
class SetAside(msgspec.Struct, frozen=True):
    """A message that failed twice: a line of the file."""

    at: str  # when, UTC
    topic: str
    why: str
    size: int  # bytes of the payload
    payload: str  # base64; shorter than `size` where it was cut
    text: str = ""  # the payload's beginning, for people


class FailedMessages:
    """The failed messages of one source; folder: the source's own."""

    def __init__(self, folder: Path) -> None:
        self._marks_path, self.path = folder / MARKS_FILE, folder / SET_ASIDE_FILE
        self._marks = _load(self._marks_path)
        self.crashed = self._marks.reading  # the process before ended while it may have been reading a message

    def begin(self) -> None:
        """Note that messages are read from now on. Raises StorageError."""
        self._write(reading=True)

    def end(self) -> None:
        """Note that reading ended orderly. Raises StorageError."""
        self._write(reading=False)

    @property
    def any(self) -> bool:
        """Whether a message failed before; while none did, none need be looked up."""
        return bool(self._marks.failed)

    def failures(self, digest: str) -> int:
        """How many marked attempts at a message failed."""
        return self._marks.failed.get(digest, 0)

    def mark(self, digest: str) -> None:
        """Note that an attempt begins; until `forget` it counts as failed. Raises StorageError."""
        failed = {**self._marks.failed, digest: self.failures(digest) + 1}
        self._marks.failed = dict(list(failed.items())[-MAX_MARKS:])
        self._write(reading=True)

    def forget(self, digest: str) -> None:
        """Note that an attempt succeeded; written with the next mark, or at the end."""
        self._marks.failed.pop(digest, None)

    def set_aside(self, digest: str, message: SetAside) -> int:
        """Store a message durably, once; how many older ones had to go. Raises StorageError."""
        if self.failures(digest) >= LIMIT and self.path.exists():
            return 0
        lines = [*self._lines(), msgspec.json.encode(message)]
        kept = _newest(lines)
        files.write_with_folder(self.path, b"".join(line + b"\n" for line in kept), 0o600)
        self._marks.failed[digest] = LIMIT
        self._write(reading=True)
        return len(lines) - len(kept)

    def count(self) -> int:
        """How many messages are in the file; none once a person has removed it: then they may be read again."""
        count = len(self._lines())
        if not count:
            self._marks.failed = {d: n for d, n in self._marks.failed.items() if n < LIMIT}
        return count

    def _lines(self) -> list[bytes]:
        try:
            return self.path.read_bytes().splitlines()
        except FileNotFoundError:
            return []
        except OSError as e:
            raise StorageError(f"{self.path}: cannot be read: {e.strerror}") from e

    def _write(self, reading: bool) -> None:
        self._marks.reading = reading
        files.write_with_folder(self._marks_path, msgspec.json.encode(self._marks), 0o600)


def digest_of(topic: str, payload: bytes) -> str:
    """Name a message by its content: another session numbers it anew."""
    made = hashlib.blake2b(topic.encode() + b"\0", digest_size=16)
    made.update(payload)
    return made.hexdigest()


def entry(at: str, topic: str, why: str, payload: bytes) -> SetAside:
    """A message as it is stored."""
    whole = payload[: MAX_BYTES // 2]
    text = payload[:200].decode("utf-8", "replace")
    return SetAside(at, topic, why, len(payload), base64.b64encode(whole).decode(), text)


def _newest(lines: Sequence[bytes]) -> list[bytes]:
    """The newest lines that fit into the file, at least one."""
    size, kept = 0, list[bytes]()
    for line in reversed(lines[-MAX_MESSAGES:]):
        size += len(line) + 1
        if kept and size > MAX_BYTES:
            break
        kept.append(line)
    return kept[::-1]


def _load(path: Path) -> Marks:
    """The stored marks; new ones where there are none, or they cannot be read."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=Marks)
    except FileNotFoundError:
        return Marks()
    except (OSError, msgspec.DecodeError):
        return Marks(reading=True)  # nothing is known of the process before: be careful
