# SPDX-License-Identifier: Apache-2.0
"""What the site stores to learn from, and never sends: samples, labels and verdicts of inspections.

Promises bounds on the disk and durable labels. Training on samples is left to `learning`.
"""
