"""What was computed for the screens, kept for all of them: the latest so many, each computed once at a time.

Like Streamlit's cache, but also for what the web server answers outside a screen.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar
from weakref import WeakKeyDictionary

Value = TypeVar("Value")


class Kept(Generic[Value]):
    """Values by key, for any number of threads. Values are shared: read only."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._values: OrderedDict[Hashable, Value] = OrderedDict()
        self._at_work: dict[Hashable, threading.Lock] = {}
        self._lock = threading.Lock()

    def get(self, key: Hashable, compute: Callable[[], Value]) -> Value:
        """Return the value kept under a key, computed first where there is none; who asks meanwhile waits for it."""
        with self._lock:
            if key in self._values:
                self._values.move_to_end(key)
                return self._values[key]
            turn = self._at_work.setdefault(key, threading.Lock())
        with turn:
            with self._lock:
                if key in self._values:
                    return self._values[key]
            try:
                value = compute()
                with self._lock:
                    self._values[key] = value
                    while len(self._values) > self._limit:
                        self._values.popitem(last=False)
            finally:
                with self._lock:
                    self._at_work.pop(key, None)
            return value


class KeptBy(Generic[Value]):
    """Values that belong to an owner (an open project) and go when it goes."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._owners: WeakKeyDictionary[object, Kept[Value]] = WeakKeyDictionary()
        self._lock = threading.Lock()

    def get(self, owner: object, key: Hashable, compute: Callable[[], Value]) -> Value:
        """Return the owner's value under a key, computed first where there is none."""
        with self._lock:
            kept = self._owners.setdefault(owner, Kept(self._limit))
        return kept.get(key, compute)
