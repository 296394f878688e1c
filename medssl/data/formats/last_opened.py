"""The one thing opened last, kept open until another is asked for: rows and slices follow each other, and to open a compressed file
again is to inflate it again."""

import os
import weakref
from collections.abc import Callable, Hashable
from contextlib import ExitStack
from typing import Generic, TypeVar

T = TypeVar("T")


class LastOpened(Generic[T]):
    """What `open_` returned for the last key. `open_` gets a stack for what has to be closed with it."""

    def __init__(self) -> None:
        self._key: Hashable = None
        self._value: T | None = None
        self._close: Callable[[], object] = lambda: None

    def get(self, key: Hashable, open_: Callable[[ExitStack], T]) -> T:
        """The thing of that key, opened unless it is the one that is kept. What `open_` raises is not kept."""
        key = key, os.getpid()  # a forked process would share the file's position with its parent
        if key != self._key or self._value is None:
            self.drop()
            with ExitStack() as stack:
                self._value = open_(stack)
                self._close = weakref.finalize(self, stack.pop_all().close)
            self._key = key
        return self._value

    def drop(self) -> None:
        """Closes it."""
        self._key = self._value = None
        self._close()
