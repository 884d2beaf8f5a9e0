# SPDX-License-Identifier: Apache-2.0
"""The aggregator's TOML file, checked whole before a socket opens; what its values do is left to the other rooms."""
