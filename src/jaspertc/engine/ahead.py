"""Work on the next item while the result of the one before is used."""

import os
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import NoReturn, TypeVar

from jaspertc.errors import InputError

Item = TypeVar("Item")
Result = TypeVar("Result")


def ahead(work: Callable[[Item], Result], items: Iterable[Item]) -> Generator[Result, None, None]:
    """``map(work, items)``, in order, where another thread works on the item after the result in use.

    Items are read in the caller's own thread, since some must be (a cursor of SQLite), one beyond the result
    that is given. The first is also worked on there: a single item needs no thread. What reading or working
    raises is raised in the place of its result, after all results before it. The thread ends with the
    generator, also with one that is closed early.

    Raises:
        InputError: it is continued in a forked process, where the thread is not.

    >>> list(ahead(str.upper, ["a", "b", "c"]))
    ['A', 'B', 'C']
    """
    process = os.getpid()
    pool: ThreadPoolExecutor | None = None  # made for the second item: a query alone needs none
    waiting: Future[Result] | None = None
    try:
        for call in _calls(work, items):
            if waiting is None:
                following = _done(call())
            else:
                pool = pool or ThreadPoolExecutor(1, thread_name_prefix="jaspertc-ahead")
                following = pool.submit(call)
                yield _result(waiting, process)
            waiting = following
        if waiting is not None:
            yield _result(waiting, process)
    finally:
        if pool is not None:
            pool.shutdown(cancel_futures=True)


def _calls(work: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Callable[[], Result]]:
    """What to call for each result; where reading fails, the last call raises why."""
    try:
        for item in items:
            yield partial(work, item)
    except Exception as error:
        yield partial(_fail, error)


def _result(future: Future[Result], process: int) -> Result:
    if os.getpid() != process:
        raise InputError("a stream of vectors cannot go on in a forked process; begin one there")
    return future.result()


def _done(result: Result) -> Future[Result]:
    future: Future[Result] = Future()
    future.set_result(result)
    return future


def _fail(error: Exception) -> NoReturn:
    raise error
