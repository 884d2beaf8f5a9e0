# SPDX-License-Identifier: Apache-2.0
"""Take part in a federation: identity, calls to the aggregator, one thread each. Training is `learning`'s part."""
