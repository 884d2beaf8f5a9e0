# SPDX-License-Identifier: Apache-2.0
"""CSV as loggers and stations write it: rows with times, and files that grow and rotate.

Leaves to its users which columns they want, and when to look.
"""
