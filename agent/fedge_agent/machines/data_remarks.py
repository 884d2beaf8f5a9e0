# SPDX-License-Identifier: Apache-2.0
"""What is doubtful about a machine's data that its stored samples do not show: what never became a sample. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from fedge_models.system.text import counted

LEAST = 20  # windows, below which nothing is said
SHARE = 0.1  # of the windows, from which it is said


def of_windows(entry: Mapping[str, Any]) -> Iterator[str]:
    """Remarks on a machine, of its entry in the status."""
    windows, gaps = entry["counters"].get("windows", 0), entry["windows_with_gaps"]
    if windows >= LEAST and gaps >= SHARE * windows:
        yield f"{gaps / windows:.0%} of the windows have too many gaps"
    for channel, count in entry["out_of_range"].items():
        if windows >= LEAST and count >= SHARE * windows:
            yield f"{counted(count, 'reading')} of {channel} out of range"
