# SPDX-License-Identifier: Apache-2.0
"""One distribution, four import packages, each in the room it is deployed from."""

import shutil

from setuptools import find_packages, setup
from setuptools.command.build_py import build_py

ROOMS = {"fedge_models": "models", "fedge_agent": "agent", "fedge_aggregator": "aggregator", "fedge_fleet": "fleet"}


class FreshBuild(build_py):
    """Build into an empty folder: a second `pip install .` would install modules that are gone since the first."""

    def run(self) -> None:
        """Copy the packages."""
        if not self.editable_mode:
            shutil.rmtree(self.build_lib, ignore_errors=True)
        super().run()


setup(
    packages=[name for room in ROOMS.values() for name in find_packages(room)],
    package_dir={package: f"{room}/{package}" for package, room in ROOMS.items()},
    include_package_data=True,  # unit files, examples, templates, scripts: all that MANIFEST.in takes from the packages
    cmdclass={"build_py": FreshBuild},
)
