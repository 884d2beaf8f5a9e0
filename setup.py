"""One distribution, four import packages, each in the room it is deployed from."""

from setuptools import find_packages, setup

FOLDERS = {
    "fedge_models": "models/fedge_models",
    "fedge_agent": "agent/fedge_agent",
    "fedge_aggregator": "aggregator/fedge_aggregator",
    "fedge_fleet": "fleet/fedge_fleet",
}

setup(
    packages=[
        name
        for package, folder in FOLDERS.items()
        for name in (package, *(f"{package}.{p}" for p in find_packages(folder)))
    ],
    package_dir=FOLDERS,
    package_data={package: ["py.typed", "*.example.toml", "*.js"] for package in FOLDERS},
)
