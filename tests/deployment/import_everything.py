# SPDX-License-Identifier: Apache-2.0
"""Import every module of the four packages and load every entry of the registries; print what was found as JSON.

It runs with the Python of an installation, without pytest: tests/deployment/test_wheel.py starts it.
"""

from __future__ import annotations

import importlib
import json
import pkgutil
import re
import sys
from types import ModuleType

PACKAGES = ("fedge_models", "fedge_agent", "fedge_aggregator", "fedge_fleet")


CLASS = re.compile(r"(?P<module>fedge_[a-z_.]+):(?P<name>[A-Za-z_]+)")


def modules(package: str) -> list[ModuleType]:
    """The package and everything below it, imported."""
    top = importlib.import_module(package)
    below = pkgutil.walk_packages(top.__path__, f"{package}.", onerror=_fail)
    return [top, *(importlib.import_module(found.name) for found in below)]


def _fail(name: str) -> None:
    raise ImportError(f"{name} cannot be imported") from sys.exc_info()[1]


def registries(module: ModuleType) -> dict[str, list[str]]:
    """Keys of the dictionaries that a module names in capitals; a value that names a class is loaded."""
    found = {}
    for name, table in vars(module).items():
        if name.isupper() and isinstance(table, dict):
            for entry in table.values():
                if isinstance(entry, str) and (place := CLASS.fullmatch(entry)):
                    getattr(importlib.import_module(place["module"]), place["name"])
            found[name] = [str(key) for key in table]
    return found


def main() -> None:
    """Print {"modules": names, "registries": {name: keys}, "folder": where fedge_models lies}."""
    imported = [module for package in PACKAGES for module in modules(package)]
    tables = {name: keys for module in imported for name, keys in registries(module).items()}
    found = {"modules": [module.__name__ for module in imported], "registries": tables, "folder": imported[0].__file__}
    print(json.dumps(found))  # noqa: T201  # its output is what it is for


if __name__ == "__main__":
    main()
