# SPDX-License-Identifier: Apache-2.0
"""The rehearsal: a user's own aggregator and gateways as real processes on one machine, with their sources replayed.

The user's files are read and never changed. Nothing leaves the machine: sources become recordings, outputs become
files, and a configuration that still names another machine is not started.
"""
