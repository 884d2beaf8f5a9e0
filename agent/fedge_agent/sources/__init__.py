# SPDX-License-Identifier: Apache-2.0
"""Where readings come from: a file for each type of source, and a host that runs, retries and counts it.

`registry` lists the types. Leaves protocols to `protocols`, and what readings mean to the assets.
"""
