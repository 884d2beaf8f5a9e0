# SPDX-License-Identifier: Apache-2.0
"""A gateway that joined while its agent ran says that a restart is due."""

from __future__ import annotations

from pathlib import Path

from fedge_agent.federation.identity import NODE_FILES, without


def test_after_join_a_running_agent_asks_for_a_restart(tmp_path: Path) -> None:
    assert without(tmp_path) == "not joined"
    (tmp_path / "identity").mkdir()
    (tmp_path / "identity" / NODE_FILES[0]).write_text("{}")
    assert without(tmp_path) == "joined; restart the agent to take part"
