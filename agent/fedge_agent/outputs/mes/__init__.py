# SPDX-License-Identifier: Apache-2.0
"""Work orders over REST: found or created exactly once, updated when the condition changes, and read back when closed.

The files in the order in which an event meets them: `output` (what happens with an event), `writer` (one writer per
target), `making` (an order exactly once), `orders` (what became of each event, durably), `caller` (a configured
request is sent) with `settings`, `sessions` and `presets`. `b2mml` is the body of a B2MML work request. Leaves HTTP to
`protocols.http`, retries to the host.
"""
