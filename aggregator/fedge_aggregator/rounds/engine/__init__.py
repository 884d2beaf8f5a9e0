# SPDX-License-Identifier: Apache-2.0
"""Computes a round block by block of columns, in threads or on a cluster, with the same bits and bounded memory."""
