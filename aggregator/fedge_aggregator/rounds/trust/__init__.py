# SPDX-License-Identifier: Apache-2.0
"""Trust in nodes, pure: what an update shows, what that means for its node's weight, and what is remembered of it."""
