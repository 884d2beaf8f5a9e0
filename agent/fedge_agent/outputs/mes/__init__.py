"""Work orders over REST: found or created exactly once, noted on when the condition changes, and read back when closed.

The files in the order in which an event meets them: `output` (what happens with it), `writer` (one writer a target),
`orders` (what became of each event, durably), `steps` (a request as the configuration says it) with `template`,
`pointer` and `presets`, then `client` and `auth` at the rim. `b2mml` is a body of its own.
"""
