# SPDX-License-Identifier: Apache-2.0
"""Train a graph by gradients and evaluate it, on arrays in memory; where the data comes from is the caller's part."""
