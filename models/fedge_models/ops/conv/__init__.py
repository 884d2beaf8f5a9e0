# SPDX-License-Identifier: Apache-2.0
"""Convolve over tiles of columns that stay in the processor's cache; and transposed."""
