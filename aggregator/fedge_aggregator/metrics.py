# SPDX-License-Identifier: Apache-2.0
"""The aggregator's metrics for Prometheus, in a registry of their own; docs/reference/metrics.md lists them."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest


class Metrics:
    """All metrics of one aggregator."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        r = self.registry
        self.accepted = Counter("fedge_aggregator_updates_accepted", "Updates stored", ["federation"], registry=r)
        what = "Statistics of sites stored"
        self.statistics = Counter("fedge_aggregator_statistics_accepted", what, ["federation"], registry=r)
        what = "Sites whose statistics count"
        self.statistics_sites = Gauge("fedge_aggregator_statistics_sites", what, ["federation"], registry=r)
        what = "Number of the newest statistics over sites; 0: none yet"
        self.statistics_number = Gauge("fedge_aggregator_statistics_published", what, ["federation"], registry=r)
        self.refused = Counter("fedge_aggregator_requests_refused", "Requests refused, by kind", ["kind"], registry=r)
        self.turned_away = Counter("fedge_aggregator_connections_turned_away", "Connections over the cap", registry=r)
        self.bytes_in = Counter("fedge_aggregator_bytes_received", "Bodies received, bytes", registry=r)
        self.bytes_out = Counter("fedge_aggregator_bytes_sent", "Bodies sent, bytes", registry=r)
        self.release = Gauge("fedge_aggregator_release", "Newest version", ["federation"], registry=r)
        self.waiting = Gauge("fedge_aggregator_round_updates", "Updates in the open round", ["federation"], registry=r)
        self.nodes = Gauge("fedge_aggregator_nodes", "Members that are not revoked", ["federation"], registry=r)
        self.quarantined = Gauge("fedge_aggregator_quarantined", "Members in quarantine", ["federation"], registry=r)
        self.doubted = Gauge(
            "fedge_aggregator_doubted", "Members that push alone and have no weight for it", ["federation"], registry=r
        )
        self.seconds = Histogram("fedge_aggregator_round_seconds", "Time to end a round, s", ["federation"], registry=r)

    def text(self) -> bytes:
        """The metrics in Prometheus' text format."""
        return generate_latest(self.registry)
