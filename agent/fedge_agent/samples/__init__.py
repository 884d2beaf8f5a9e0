# SPDX-License-Identifier: Apache-2.0
"""What the site stores to learn from, and never sends: samples, labels, verdicts, and what people decide on events.

Promises bounds on the disk, durable labels, and that windows of an alarm are withheld until somebody decides. Training
on samples is left to `learning`.
"""
