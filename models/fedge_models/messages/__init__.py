# SPDX-License-Identifier: Apache-2.0
"""Encode, sign, verify and decode what the two ends send each other; sending it and acting on it are theirs."""
