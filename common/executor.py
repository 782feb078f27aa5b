"""Where work that splits into items runs: in this process, or in a pool of processes.

This is the seam for many machines: anything with the same ``map`` can stand in its place, such as
``ray.util.multiprocessing.Pool`` behind four lines. What comes back never depends on how many
workers there are; all randomness is in the items (see ``Context.seed_for``).
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from typing import Any, TypeVar

from common.stages import Progress

T = TypeVar("T")
U = TypeVar("U")


class WorkerDiedError(RuntimeError):
    """A worker process ended without an answer: killed for memory, or by a crash in C code."""


class Executor:
    """Maps a function over items with ``workers`` processes; 0 is this process itself.

    Workers are spawned, never forked, since a fork of a process with threads may hang: function,
    items and results must pickle, and a script must guard its entry point with ``__main__``. The
    pool starts at the first ``map`` and stays for the next.
    """

    def __init__(self, workers: int = 0) -> None:
        if workers < 0:
            raise ValueError(f"workers must not be negative, and {workers} is")
        self.workers = workers
        self._pool: ProcessPoolExecutor | None = None

    def map(
        self,
        function: Callable[[T], U],
        items: Iterable[T],
        progress: Progress | None = None,
        what: str = "work",
    ) -> list[U]:
        """``function`` of each item, in the order of the items.

        Raises:
            WorkerDiedError: a worker process died; the next ``map`` starts new ones.
            Exception: what ``function`` raised, for the first item in order of those that failed
                before the rest was called off.
        """
        work = list(items)
        tell = progress or _silent
        if self.workers == 0:
            results = []
            for item in work:
                results.append(function(item))
                tell(len(results), len(work), what)
            return results
        if self._pool is None:
            context = multiprocessing.get_context("spawn")
            self._pool = ProcessPoolExecutor(self.workers, mp_context=context)
        futures: list[Future[U]] = []
        try:
            futures = [self._pool.submit(function, item) for item in work]
            for done, future in enumerate(as_completed(futures), 1):
                if future.exception() is not None:
                    break
                tell(done, len(work), what)
            else:
                return [future.result() for future in futures]
            raise _first_error(futures)
        except BrokenProcessPool as error:
            self.close()
            left = sum(not f.done() or f.exception() is not None for f in futures)
            raise WorkerDiedError(
                f"a worker process died during {what}, {left} of {len(work)} items unfinished; "
                "it may have run out of memory: try fewer workers"
            ) from error
        finally:
            for future in futures:
                future.cancel()

    def close(self) -> None:
        """Stop the workers."""
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)
            self._pool = None

    def __enter__(self) -> Executor:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _first_error(futures: list[Future[Any]]) -> BaseException:
    errors = (future.exception() for future in futures if future.done())
    return next(error for error in errors if error is not None)


def _silent(done: int, total: int, what: str) -> None: ...
