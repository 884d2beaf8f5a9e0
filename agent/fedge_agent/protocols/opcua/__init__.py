# SPDX-License-Identifier: Apache-2.0
"""OPC UA as a client, and the certificates of clients and servers: trust, connection, tags, browsing, reasons.

Leaves subscriptions and writes to the source and the outputs, and reconnecting to their hosts.
"""
