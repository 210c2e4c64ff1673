"""Concurrent stages of a stream, so that reading, computing and writing overlap."""

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

T = TypeVar("T")
END: Any = object()


def ahead(items: Iterable[T], depth: int = 2) -> Iterator[T]:
    """The same items, produced in a thread of their own, at most `depth` ahead.

    Its exceptions are raised here. It stops when the consumer does.
    """
    made, maker = iter(items), ThreadPoolExecutor(1)
    try:
        coming = deque(maker.submit(next, made, END) for _ in range(depth))
        while (item := coming.popleft().result()) is not END:
            coming.append(maker.submit(next, made, END))
            yield item
    finally:
        maker.shutdown(cancel_futures=True)
