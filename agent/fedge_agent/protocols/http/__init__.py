# SPDX-License-Identifier: Apache-2.0
"""Call other people's HTTP servers: one request, one bounded answer, and errors that say whether to try again.

Leaves to sources and outputs what to ask, and what an answer means to them.
"""
