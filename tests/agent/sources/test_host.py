"""A source's thread: how long it waits before it tries again, and what ends the waiting."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence

import pytest
from fedge_agent.sources.host import FIRST_WAIT_S, LONGEST_WAIT_S, PERSON_WAIT_S, HostedSource, Queue
from fedge_agent.types import SourceHost
from fedge_models.errors import ConfigError, FedgeError, IdentityError, UnreachableError

JITTER = 0.25  # of each wait, both ways


class Waits(threading.Event):
    """The `stop` of a source; notes how long it was waited for, and is set after `most` waits."""

    def __init__(self, most: int) -> None:
        super().__init__()
        self.seconds, self._most = list[float](), most

    def wait(self, timeout: float | None = None) -> bool:
        self.seconds.append(timeout or 0.0)
        if len(self.seconds) == self._most:
            self.set()
        return self.is_set()

    def used_up(self) -> bool:
        """Wait until the source has waited `most` times."""
        return super().wait(30)


class Failing:
    """A source that fails as it is told."""

    def __init__(self, errors: Iterator[Exception]) -> None:
        self._errors = errors

    def run(self, tags: Sequence[str], host: SourceHost) -> None:
        raise next(self._errors)

    def check(self, tags: Sequence[str]) -> list[str]:
        return []


def waits(*errors: Exception) -> list[float]:
    """Seconds that a source waits after each of the errors."""
    source = HostedSource("plc", Failing(iter(errors)), [], Queue(8))
    source.stop = clock = Waits(len(errors))
    source.start()
    assert clock.used_up()
    source.join(30)
    assert source.status()["reconnects"] == len(errors) == len(clock.seconds)
    return clock.seconds


def test_a_source_that_is_away_is_tried_again_soon_and_then_less_often() -> None:
    found = waits(*[UnreachableError("the cable is out")] * 5)
    for seconds, middle in zip(found, [FIRST_WAIT_S, 2.0, LONGEST_WAIT_S, LONGEST_WAIT_S, LONGEST_WAIT_S], strict=True):
        assert middle * (1 - JITTER) <= seconds <= middle * (1 + JITTER)


@pytest.mark.parametrize("error", [ConfigError("no such tag"), IdentityError("not trusted"), FedgeError("a new kind")])
def test_a_source_that_only_a_person_can_mend_is_not_tried_again_at_once(error: FedgeError) -> None:
    first, again, healing = waits(error, error, UnreachableError("restarts"))
    for seconds in (first, again):
        assert PERSON_WAIT_S * (1 - JITTER) <= seconds <= PERSON_WAIT_S * (1 + JITTER)
    assert healing <= LONGEST_WAIT_S * (1 + JITTER)
