# SPDX-License-Identifier: Apache-2.0
"""Describe channels by histograms that name no single value, and compare one site with the others; sending them is
left to others."""
