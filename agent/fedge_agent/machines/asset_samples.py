# SPDX-License-Identifier: Apache-2.0
"""The windows of one asset as training samples, with the target values of their labels."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from fedge_models.errors import StorageError
from fedge_models.graph.card import Card
from numpy.typing import NDArray

from ..config.schema import AssetConfig
from ..samples.baseline import Progress
from ..samples.label_values import TargetValue, is_known, measured_values, target_value
from ..samples.sample_table import Sample
from ..samples.split import Split, split
from ..samples.store import SampleStore
from ..samples.tag_labels import TagLabels
from ..samples.units import HOLD, LEARN, NEITHER
from ..types import Window
from ..windows.channel import NEVER_NS
from .condition import Cause, Reason
from .pace import Pace

PATIENCE = 2  # baselines of operation in which labels should have come


class AssetSamples:
    """What asset `name` stores to learn from; nothing before its model is known (`begin`)."""

    def __init__(self, name: str, config: AssetConfig, samples: SampleStore) -> None:
        self._name, self._config, self._samples = name, config, samples
        late = config.label is not None and config.label.late is not None
        self._store_all = late or not config.labelled  # windows without a label too
        self._card: Card | None = None
        self._split, self._span_ns = Split(1, 1 << 60), 0
        self._hop_ns = 0  # operation that a window adds to the baseline
        self._covers_ns = 0  # the same since the last sample
        self._windows = 0  # since the start
        self._stored_ns = NEVER_NS  # replay: end of the newest window that is stored
        self._parts: dict[int, str] = {}  # end of a picture that waits for its label -> the part that it shows
        self._tag_labels = TagLabels()

    def begin(self, card: Card, pace: Pace, holdout: float) -> None:
        """Store samples for this model from now on; holdout: fraction of time that is held back."""
        self._card, self._span_ns = card, pace.span_ns
        self._split = split(pace.rate_hz, pace.length, pace.hop, holdout)
        if card.task == "anomaly":
            self._hop_ns = pace.hop_ns
            with suppress(StorageError):  # then it begins with the next window
                self._samples.estimate_cover(self._config.model, self._name, pace.hop_ns)

    def resume(self) -> None:
        """Store no window again that a replay makes again, until `live`."""
        with suppress(StorageError):  # samples that cannot be read are not written twice either
            self._stored_ns = self._samples.last_of(self._config.model, self._name) or NEVER_NS

    def live(self) -> None:
        """End the replay: what follows is new."""
        self._stored_ns = NEVER_NS

    def target(self, window: Window) -> TargetValue:
        """The target value of a window's label; None: unknown."""
        assert self._card is not None
        value = window.label
        if isinstance(value, tuple):
            return measured_values(value, self._card)
        if value is None:
            return None
        names = self._config.label.map if self._config.label else {}  # of the one target that a tag may give by name
        target = target_value(value, self._card, names)
        self._tag_labels.window(target is not None)
        return target

    def read_label(self, value: float | str) -> None:
        """Note a label as a tag gave it, whatever becomes of the windows that have it."""
        if self._card is None:
            return
        names = self._config.label.map if self._config.label else {}
        known = isinstance(value, float) if self._config.targets else is_known(value, self._card, names)
        self._tag_labels.read(value, known, self._card)

    def put(self, window: Window, features: NDArray[Any], actual: TargetValue, part: str) -> None:
        """Queue a window, unless its label is unknown and not waited for.

        A picture is queued once its label is known (`put_labelled`). part: what was made meanwhile.
        """
        assert self._card is not None
        if self._card.image is not None:
            self._parts[window.end_ns] = part
        else:
            self._put(window.end_ns, features, actual, part)

    def put_labelled(self, window: Window) -> TargetValue:
        """Queue a picture that was put before, now with its label; its target value."""
        actual = self.target(window)
        self._put(window.end_ns, window.values, actual, self._parts.pop(window.end_ns, ""))
        return actual

    def lacks_labels(self, known: Progress) -> Cause | None:
        """Why the baseline will not be complete by waiting: operation for two of them has given too few windows that
        are labelled normal."""
        enough = self._windows * self._hop_ns >= PATIENCE * known.span_ns and self._windows >= PATIENCE * known.least
        if not self._config.labelled or known.windows >= known.least or not enough:
            return None
        return Cause(Reason.LABELS, count=known.windows, total=self._windows, detail=str(known.least))

    def status(self) -> dict[str, Any]:
        """For the status page."""
        return {
            "tag_labels": self._tag_labels.status(),
            "windows_thinned": self._samples.thinned[self._name],
            "samples_repeated": self._samples.repeated[self._name],
            "samples_crowded": self._samples.crowded[self._name],
        }

    def _put(self, end_ns: int, x: NDArray[Any], actual: TargetValue, part: str) -> None:
        if end_ns <= self._stored_ns:
            return
        self._covers_ns += self._hop_ns
        self._windows += 1
        span = self._span_ns
        held = self._split.held(end_ns - span, end_ns)
        if actual is not None or self._store_all:
            covers, self._covers_ns = self._covers_ns, 0
            stored = self._samples.as_stored(self._config.model, x)
            block = NEITHER if held is None else HOLD if held else LEARN
            self._samples.put(Sample(self._config.model, self._name, end_ns, stored, actual, block, span, part, covers))
