# SPDX-License-Identifier: Apache-2.0
"""Turn a run that is unlike those its limit was made from (`run_limit`) into an event of its own. Pure.

It shares the kind `drift` with the inputs (`input_drift`), and nothing else: either may be open while the other is.
It is over when the next run begins, or a person accepts the run as normal; then the run raises no second one.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from ..config.schema import When
from ..types import DRIFT, Decision, Event, UnlikeState
from .run_limit import FAR
from .silence import nothing

AGAIN_NS = 86_400 * 10**9  # readings from further back were not stored for a restart: a clock was set


class UnlikeRun:
    """The event of one asset. prefix: of its keys; raise_event, accepted, withhold: as in `InputDrift`."""

    def __init__(
        self,
        prefix: str,
        model: str,
        asset: str,
        when: When,
        state: UnlikeState,
        run: str,
        raise_event: Callable[[Event], None],
        accepted: Callable[[str], bool],
        withhold: Callable[[str, int, int | None], None],
    ) -> None:
        self._prefix, self._model, self._asset = prefix, model, asset
        self._when, self._run = when, run
        self._raise, self._accepted, self._withhold = raise_event, accepted, withhold
        self.state = state
        self._last_ns = 0  # end of the newest window of the run

    def begin(self) -> None:
        """Withhold again what was withheld: the book may not know it, if the agent was killed just then."""
        if self.state.opened:
            self._withhold(self.open_key, self.state.since_ns, None)

    @property
    def open_key(self) -> str:
        """Key of the event that is open; "": there is none."""
        return self._key() if self.state.opened else ""

    def take(self, decision: Decision, since_ns: int, ratio: float | None) -> str:
        """Take a decision of the run that began then; ratio: with the one that shows that the run is unlike others, by
        how much its scores are above theirs; else None. Return the key of an event that a person accepted, or ""."""
        accepted = ""
        if self.state.opened:
            accepted = self.open_key if self._accepted(self.open_key) else ""
            self._look_whether_over(decision, since_ns)
        if ratio is not None and self._when.drift_for and not self.state.opened and not self._is_told(since_ns):
            self._open(decision, since_ns, ratio)
        self._last_ns = decision.time_ns
        return accepted

    def _is_told(self, since_ns: int) -> bool:
        """Whether the run raised its event already, before a restart after which its readings come again too."""
        return self.state.number > 0 and 0 <= self.state.since_ns - since_ns <= AGAIN_NS

    def _open(self, decision: Decision, since_ns: int, ratio: float) -> None:
        times = f"{ratio:.3g} times" if ratio < FAR else "far above"
        reason = f"this run is not like those that its limit was made from: its first scores are {times} theirs"
        self.state = UnlikeState(self.state.number + 1, True, since_ns, decision.time_ns, reason, self._run)
        self._withhold(self.open_key, since_ns, None)
        self._raise(self._event("opened", decision, reason, since_ns))

    def _look_whether_over(self, decision: Decision, since_ns: int) -> None:
        ended = since_ns > self.state.since_ns  # readings of before a restart may come again: these end nothing
        if not ended and not self._accepted(self.open_key):
            return
        until_ns = self._last_ns if ended and self._last_ns else decision.time_ns
        self._withhold(self.open_key, self.state.since_ns, until_ns)
        reason = "another run began" if ended else "the run was accepted as normal"
        self.state = msgspec.structs.replace(self.state, opened=False, time_ns=decision.time_ns)
        self._raise(self._event("cleared", decision, reason, decision.time_ns))

    def _key(self) -> str:
        return f"{self._prefix}:{DRIFT}-{self.state.run}-run-{self.state.number}"

    def _event(self, what: str, decision: Decision, reason: str, since_ns: int) -> Event:
        last = nothing(self._asset, self._model, decision.release, decision.time_ns)
        last = msgspec.structs.replace(last, label=DRIFT, missing=decision.missing)
        return Event(
            key=self._key(),
            state=what,
            decision=last,
            worst=last.score,
            severity=self._when.drift_severity,
            since_ns=since_ns,
            kind=DRIFT,
            reason=reason,
        )
