# SPDX-License-Identifier: Apache-2.0
"""Call once more what failed because its database has moved: to a new file, or to memory."""

from __future__ import annotations

import functools
from collections.abc import Callable
from types import FunctionType
from typing import ParamSpec, TypeVar

from ..errors import StorageError

Class = TypeVar("Class", bound=type)
Given = ParamSpec("Given")
Result = TypeVar("Result")


class MovedError(StorageError):
    """The call failed and changed nothing; another file, or memory, takes its place now. Once more is worth it."""


def once_more(method: Callable[Given, Result]) -> Callable[Given, Result]:
    """A decorator: call the method once more when the database has moved."""

    @functools.wraps(method)
    def call(*values: Given.args, **named: Given.kwargs) -> Result:
        try:
            return method(*values, **named)
        except MovedError:
            return method(*values, **named)

    return call


def retried(store: Class) -> Class:
    """A class decorator: call each public method once more when the database has moved."""
    for name in dir(store):
        method = getattr(store, name)
        if not name.startswith("_") and isinstance(method, FunctionType):
            setattr(store, name, once_more(method))
    return store
