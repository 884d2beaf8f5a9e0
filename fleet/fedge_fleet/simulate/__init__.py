# SPDX-License-Identifier: Apache-2.0
"""A federation of many sites in one process and in simulated time."""
