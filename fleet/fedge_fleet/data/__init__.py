# SPDX-License-Identifier: Apache-2.0
"""Recorded and simulated machines as sites of a federation, and one site as its member."""
