"""A cache of one open file. Slices of a file are read one after another, and a compressed file that is opened again is inflated again."""

import os
import weakref
from collections.abc import Callable, Hashable
from contextlib import ExitStack
from typing import Generic, TypeVar

T = TypeVar("T")


class LastOpened(Generic[T]):
    """The value that `open_` returned for the last key. `open_` enters what must be closed later into the ExitStack that it gets."""

    def __init__(self) -> None:
        self._key: Hashable = None
        self._value: T | None = None
        self._close: Callable[[], object] = lambda: None

    def get(self, key: Hashable, open_: Callable[[ExitStack], T]) -> T:
        """The value for `key`: the kept one if it has this key, else the one that `open_` returns. Exceptions of `open_` are passed on."""
        key = key, os.getpid()  # a forked process must open the file anew: parent and child would share its position
        if key != self._key or self._value is None:
            self.drop()
            with ExitStack() as stack:
                self._value = open_(stack)
                self._close = weakref.finalize(self, stack.pop_all().close)
            self._key = key
        return self._value

    def drop(self) -> None:
        """Closes the kept value's files and forgets the value."""
        self._key = self._value = None
        self._close()
