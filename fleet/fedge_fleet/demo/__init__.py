# SPDX-License-Identifier: Apache-2.0
"""The demonstration: real processes, real faults, and a report of what was promised and measured."""
