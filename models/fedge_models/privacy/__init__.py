"""Bound what updates reveal: clipping, exact discrete noise, and accounting; whoever trains stores what was spent."""
