"""One distribution, four import packages, each in the room it is deployed from."""

from setuptools import setup

ROOMS = {
    "fedge_models": "models/fedge_models",
    "fedge_agent": "agent/fedge_agent",
    "fedge_aggregator": "aggregator/fedge_aggregator",
    "fedge_fleet": "fleet/fedge_fleet",
}
SUBPACKAGES = [
    "fedge_models.ops",
    "fedge_agent.opcua",
    "fedge_agent.sources",
    "fedge_agent.outputs",
    "fedge_agent.web",
    "fedge_aggregator.engine",
    "fedge_aggregator.rules",
    "fedge_aggregator.trust",
    "fedge_fleet.problems",
    "fedge_fleet.attacks",
    "fedge_aggregator.store",
]

setup(
    packages=[*ROOMS, *SUBPACKAGES],
    package_dir=ROOMS,
    package_data={room: ["py.typed", "*.example.toml", "*.js"] for room in ROOMS},
)
