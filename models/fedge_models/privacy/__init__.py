# SPDX-License-Identifier: Apache-2.0
"""Bound what updates reveal: clipping, exact discrete noise, and accounting; whoever trains stores what was spent."""
