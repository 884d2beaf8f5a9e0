"""x"""

WORK_REQUEST: dict[str, object] = {}
