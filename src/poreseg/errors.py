"""User errors and warnings, each reported in one line."""

import difflib
import logging
import sys
import traceback
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path


class PoresegError(Exception):
    """A user error, in one line: what was found, what was wanted, what to do."""


class PoresegWarning(UserWarning):
    """Something a user should know, though the work goes on."""


def warn(message: str) -> None:
    """Issue a `PoresegWarning`, one line."""
    warnings.warn(message, PoresegWarning, stacklevel=3)


def nearest(name: str, known: Iterable[str]) -> str:
    """`` (did you mean 'x'?)`` for the known name closest to `name`, or nothing."""
    close = difflib.get_close_matches(name, list(known), n=1)
    return f" (did you mean '{close[0]}'?)" if close else ""


def first_of(names: Sequence[str], most: int = 3) -> str:
    """The first names of many, for a message.

    >>> first_of(["a", "b", "c", "d"]), first_of(["a"])
    ('a, b, c, ...', 'a')
    """
    return ", ".join(names[:most]) + (", ..." if len(names) > most else "")


def _one_line(message: str) -> str:
    return " ".join(str(message).split())


@contextmanager
def told_in_one_line(log: Path | str | None = None) -> Iterator[None]:
    """Run a job; each poreseg warning and user error becomes one line.

    A `PoresegError` ends the process with status 1 and no traceback, Ctrl-C with status 130,
    as in shells; any other exception is a bug: its traceback goes to the log and the
    terminal, and the status is 1.

    Parameters
    ----------
    log
        File that gets the same lines as the terminal; created empty when all is well.
    """
    handlers: list[logging.Handler] = [logging.StreamHandler(sys.stderr)]
    if log is not None:
        Path(log).parent.mkdir(parents=True, exist_ok=True)
        handlers.append(logging.FileHandler(log, mode="w", encoding="utf-8"))
    logger = logging.getLogger("poreseg")
    logger.propagate = False
    logger.setLevel(logging.INFO)
    logger.handlers = handlers

    with warnings.catch_warnings():
        warnings.simplefilter("always", PoresegWarning)
        library_warning = warnings.showwarning

        def show(message, category, filename, lineno, file=None, line=None):  # type: ignore[no-untyped-def]
            if issubclass(category, PoresegWarning):
                logger.warning("warning: %s", _one_line(str(message)))
            else:
                library_warning(message, category, filename, lineno, file, line)

        warnings.showwarning = show
        try:
            yield
        except PoresegError as error:
            logger.error("error: %s", _one_line(str(error)))
            raise SystemExit(1) from None
        except Exception:
            logger.error("%s", traceback.format_exc())
            raise SystemExit(1) from None
        except KeyboardInterrupt:
            logger.error("interrupted")
            raise SystemExit(130) from None
        finally:
            logger.handlers = []
            for handler in handlers:
                handler.close()
