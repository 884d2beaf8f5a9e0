# SPDX-License-Identifier: Apache-2.0
"""Formulas over a card's channels: parsed, put in order, compiled to NumPy calls; no other language runs in them."""
