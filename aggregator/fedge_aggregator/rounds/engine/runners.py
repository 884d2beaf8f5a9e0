# SPDX-License-Identifier: Apache-2.0
"""The runners that there are: threads of this process, and a Dask cluster."""

from __future__ import annotations

from fedge_models.errors import ConfigError

from .cluster import Cluster
from .runner import Runner
from .threads import Threads

LOCAL = Threads()


def build_runner(engine: str, where: str, key: str = "engine") -> Runner:
    """The runner for ``local`` (threads of this process) or ``dask://host:port`` (a cluster). Raises ConfigError."""
    if engine == "local":
        return LOCAL
    if engine.startswith("dask://"):
        return Cluster(engine.removeprefix("dask://"))
    raise ConfigError(f"{where}: key {key!r}: expected 'local' or 'dask://HOST:PORT', got {engine!r}")
