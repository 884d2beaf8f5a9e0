# SPDX-License-Identifier: Apache-2.0
"""Data sets as federations, one file for each family of sets; `registry.py` lists them."""
