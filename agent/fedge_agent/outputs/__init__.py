# SPDX-License-Identifier: Apache-2.0
"""Where events and decisions go: a file for each type of output, and a host that retries, backs off and counts.

`registry` lists the types. Leaves protocols to `protocols`, and durability to the spool.
"""
