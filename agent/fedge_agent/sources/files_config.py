# SPDX-License-Identifier: Apache-2.0
"""The keys of ``[source.X] type = "files"``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import msgspec
from fedge_models.system.settings import Positive

from ..protocols.csv.form import Form


class FilesConfig(Form, frozen=True, forbid_unknown_fields=True):
    """``[source.X] type = "files"``; a tag is a column's name, or (long) what its row says."""

    path: Path  # CSV, .gz or .xlsx; its last part may be a pattern of names: "log_*.csv"
    rate_hz: Annotated[float, msgspec.Meta(gt=0)] = 1.0  # of rows without time_column
    speed: Annotated[float, msgspec.Meta(gt=0)] = 1.0  # times real time
    at_end: Literal["stop", "repeat"] = "stop"
    tail: bool = False  # follow rows that are appended
    start: Literal["end", "begin"] = "end"  # tail: where to start in a file never read before
    poll: Positive = Positive(1)  # tail: how often to look
