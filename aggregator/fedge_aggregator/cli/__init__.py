# SPDX-License-Identifier: Apache-2.0
"""The commands of `fedge-aggregator`: what an operator types; all but `start` work while the server runs."""
