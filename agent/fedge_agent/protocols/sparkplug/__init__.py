# SPDX-License-Identifier: Apache-2.0
"""Sparkplug B (Eclipse Sparkplug 3.0): payloads, topics, the host's view of edge nodes, and an edge node of our own.

Pure but for `state`, which loads and saves a file. Leaves the connection to `protocols.mqtt`, and sockets and clocks to
the callers.
"""
