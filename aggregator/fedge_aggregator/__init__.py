# SPDX-License-Identifier: Apache-2.0
"""The aggregator: it admits nodes and updates, averages them robustly and signs releases."""
