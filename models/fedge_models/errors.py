# SPDX-License-Identifier: Apache-2.0
"""The one error tree, named for what happens next. Every exception that crosses a room is one of these.

::

    FedgeError
    ├── StopError               a person has to change something; trying again cannot help
    │   ├── ConfigError         a key, a file or a value of a configuration
    │   ├── ModelError          an ONNX file or its card that cannot serve or train here
    │   ├── DataError           a file of recorded data that does not fit
    │   ├── IdentityError       key, certificate or invitation not (or no longer) accepted
    │   └── BudgetError         the privacy budget is spent
    ├── RefusedError            input from outside, dropped and counted; the same bytes are refused again
    │   ├── WireError           malformed, over its cap, not finite
    │   ├── SignatureError      not signed by whom it claims
    │   ├── PictureError        bytes that are no whole picture of an accepted format and size
    │   ├── StaleError          right, but too late: outdated base (HTTP 409)
    │   │   └── ReplayError     a sequence number that was used; names the last one
    │   └── ReleaseError        a release that fails the chain of trust or the local canary
    └── RetryError              the world may heal: back off and try again
        ├── UnreachableError    peer absent, timed out or hung up
        ├── UnavailableError    peer that answers, but serves nobody now: its login, its limit of requests, its proxy
        ├── ConflictError       a request that met another's work: after a new look it may succeed, or never
        ├── UnclearError        an answer that tells neither that something was done nor that it was refused
        └── StorageError        disk full or failing

A message says what was expected, what came, where (file and key, node and round) and what the operator can do.
A caller's misuse is ``ValueError`` or ``RuntimeError``, not one of these.
"""

from __future__ import annotations


class FedgeError(Exception):
    """Root of everything fedge raises on purpose."""


def first_line(error: BaseException) -> str:
    """The first line of a foreign exception's text; its type where it has none (some of onnx's, on Python 3.10)."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)


class StopError(FedgeError):
    """A person has to change something first."""


class ConfigError(StopError):
    """A configuration that cannot be used; the message names file and key."""


class ModelError(StopError):
    """An ONNX file or model card that cannot serve or train here; the message names node or field."""


class DataError(StopError):
    """A file of recorded data that does not fit the model; the message names line and column, or array."""


class IdentityError(StopError):
    """A key, certificate or invitation that is missing, expired, spent or revoked."""


class BudgetError(StopError):
    """A privacy budget that another update or round would overrun; nothing was released."""


class RefusedError(FedgeError):
    """Input from outside that is dropped and counted."""


class WireError(RefusedError):
    """Bytes that do not follow the schema, pass a cap, or carry a value that is not finite."""


class SignatureError(RefusedError):
    """A signature that does not verify with the expected key over the received bytes."""


class PictureError(RefusedError):
    """Bytes that are no whole picture of an accepted format and size."""


class StaleError(RefusedError):
    """A replayed sequence number or a base release that is no longer open."""


class ReplayError(StaleError):
    """A sequence number that is not above the last one, which a gateway restored from a backup may send."""

    def __init__(self, text: str, last: int) -> None:
        super().__init__(text)
        self.last = last


class ReleaseError(RefusedError):
    """A release that fails the chain of trust, or that is clearly worse on local data."""


class RetryError(FedgeError):
    """A failure that may heal by itself. `nothing_done`: the peer did certainly nothing of what was asked."""

    def __init__(self, text: str = "", nothing_done: bool = False) -> None:
        super().__init__(text)
        self.nothing_done = nothing_done


class UnreachableError(RetryError):
    """A peer that is absent, too slow, or closed the connection."""


class UnavailableError(RetryError):
    """A peer that answers, but serves nobody at the moment. `wait_s`: how long it asks to wait, s; 0: it does not."""

    def __init__(self, text: str = "", nothing_done: bool = False, wait_s: float = 0.0) -> None:
        super().__init__(text, nothing_done)
        self.wait_s = wait_s


class ConflictError(RetryError):
    """A request that met another's work, or a state that has changed since it was read. `exists`: what it was to make
    may be there already."""

    def __init__(self, text: str = "", nothing_done: bool = False, exists: bool = False) -> None:
        super().__init__(text, nothing_done)
        self.exists = exists


class UnclearError(RetryError):
    """An answer that tells neither that the request was carried out nor that it was refused."""


class StorageError(RetryError):
    """A disk that is full or failing; the caller counts what it could not store."""
