# SPDX-License-Identifier: Apache-2.0
"""Aggregation rules, one file each: from the updates of a round to one vector, exact to the bit; pure."""
