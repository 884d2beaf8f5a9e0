# SPDX-License-Identifier: Apache-2.0
"""What survives kill -9 and power cuts: readings not yet decided on, events, progress and releases.

Promises that what was acknowledged is there after a restart. What it means is left to the rooms that store it.
"""
