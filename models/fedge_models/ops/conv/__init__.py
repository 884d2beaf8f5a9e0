# SPDX-License-Identifier: Apache-2.0
"""Convolve in the way that suits the node: over flat rows, depthwise, or over gathered windows; and transposed."""
