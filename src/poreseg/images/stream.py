"""Stages of a stream that work at the same time: reading, computing and writing overlap."""

import queue
import threading
from collections.abc import Iterable, Iterator
from typing import Any, TypeVar

T = TypeVar("T")
END = object()


def ahead(items: Iterable[T], depth: int = 2) -> Iterator[T]:
    """The same items, made in a thread of their own, at most `depth` of them ahead.

    What the maker raises is raised here. When the taker stops, so does the maker.
    """
    made: queue.Queue[Any] = queue.Queue(maxsize=depth)
    stopped = threading.Event()

    def put(item: Any) -> bool:
        while not stopped.is_set():
            try:
                made.put(item, timeout=0.1)
                return True
            except queue.Full:
                continue
        return False

    def make() -> None:
        try:
            for item in items:
                if not put((item, None)):
                    break
            else:
                put(END)
        except BaseException as error:
            put((None, error))

    maker = threading.Thread(target=make, daemon=True)
    maker.start()
    try:
        while (taken := made.get()) is not END:
            item, error = taken
            if error is not None:
                raise error
            yield item
    finally:
        stopped.set()
        maker.join()
