"""A pool of warm Blender processes: ``with Workers() as workers: workers.do(job)``.

bpy is one process's global state, leaks a little with every scene (328 to 351 MB over 41 scenes,
measured) and takes the process with it when it crashes. So each worker is a fresh interpreter that
is replaced after so many jobs or megabytes, and whenever it crashes or outstays a job's time; that
job is then done once more in a new one. Jobs carry all that they need, so which worker does a job
changes nothing but the time it takes.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import select
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Literal, TypeVar

from pydantic import BaseModel

from common.errors import UserError
from scenes.render.jobs import Job

R = TypeVar("R", bound=BaseModel)
Device = Literal["auto", "cpu", "gpu"]

START_SECONDS = 180
"""Importing bpy takes 2 s; a machine that is busy, or reads it off a slow disk, takes longer."""


class RenderError(UserError):
    """A job that Blender could not do, twice where it crashed or hung."""


class _GoneError(Exception):
    """The worker has ended or was ended; the message says how."""


class _Process:
    """One interpreter with bpy, and the two pipes to it. Its prints go to a log file."""

    def __init__(self, folder: Path, device: Device, threads: int) -> None:
        self.jobs = 0
        self.memory = 0
        self._log = folder / f"worker-{time.monotonic_ns()}.log"
        self._pending = b""
        root = str(Path(__file__).parents[2])
        old = os.environ.get("PYTHONPATH")
        environment = os.environ | {
            "PYTHONPATH": root if not old else root + os.pathsep + old,
            "BLENDER_USER_RESOURCES": str(folder),  # no add-ons or preferences of the user's
            "TMPDIR": str(folder),
        }
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-P", "-m", "scenes.render.worker", device, str(threads)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                env=environment,
                start_new_session=True,  # Ctrl-C is the parent's to deal with
            )
        try:
            self.answer(START_SECONDS)
        except (_GoneError, TimeoutError) as error:
            self.kill()
            raise UserError(
                f"Blender's worker did not start: {error}", "upspiral doctor; then try again"
            ) from None

    def ask(self, job: Job[R], timeout: float) -> R:
        """The job's result. Raises what it failed with, _GoneError, or TimeoutError."""
        line = json.dumps({"job": type(job).__name__, "data": job.model_dump(mode="json")})
        assert self.process.stdin is not None
        try:
            self.process.stdin.write(line.encode() + b"\n")
            self.process.stdin.flush()
        except OSError as error:
            raise _GoneError(self._end()) from error
        self.jobs += 1
        said = self.answer(timeout)
        return job.returns.model_validate(said)  # type: ignore[return-value]

    def answer(self, timeout: float) -> object:
        """The next line's result; an error in it is raised here."""
        said = json.loads(self._line(time.monotonic() + timeout))
        self.memory = said.get("memory", 0)
        error = said.get("error")
        if error is None:
            return said.get("result")
        if error["type"] == "disk":
            raise OSError(error["errno"], error["message"], error["path"])
        kind = UserError if error["type"] == "user" else RenderError
        raise kind(error["message"], error["remedy"])

    def _line(self, deadline: float) -> bytes:
        assert self.process.stdout is not None
        descriptor = self.process.stdout.fileno()
        while b"\n" not in self._pending:
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([descriptor], [], [], left)[0]:
                raise TimeoutError
            chunk = os.read(descriptor, 1 << 16)
            if not chunk:
                raise _GoneError(self._end())
            self._pending += chunk
        line, _, self._pending = self._pending.partition(b"\n")
        return line

    def _end(self) -> str:
        """How the process ended, with the last words of its log."""
        try:
            code = self.process.wait(10)
        except subprocess.TimeoutExpired:
            return "it closed its pipe"
        how = f"signal {-code}" if code < 0 else f"exit code {code}"
        words = self._log.read_text(errors="replace").strip().splitlines()
        return f"{how}, {words[-1][:200]!r}" if words else how

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()
        self._log.unlink(missing_ok=True)


class Workers:
    """``count`` Blender processes, started when there is work for them.

    ``device`` is where Cycles renders: ``auto`` takes a GPU where Blender finds one. A worker is
    replaced after ``recycle_after`` jobs, or once it holds more than ``memory`` bytes between two.
    ``timeout`` is what one job may take, in seconds.
    """

    def __init__(
        self,
        count: int = 1,
        device: Device = "auto",
        recycle_after: int = 200,
        memory: int = 3_000_000_000,
        timeout: float = 600,
    ) -> None:
        if count < 1 or recycle_after < 1:
            raise UserError(f"{count} workers of {recycle_after} jobs each", "ask for one or more")
        self.count, self.recycle_after, self.memory = count, recycle_after, memory
        self.timeout = timeout
        self._device: Device = device
        self._threads = max(1, len(os.sched_getaffinity(0)) // count)
        self._idle: queue.LifoQueue[_Process | None] = queue.LifoQueue()
        self._running: set[_Process] = set()
        self._lock = threading.Lock()
        self._closed = False
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        # A worker ends with the thread that started it (PR_SET_PDEATHSIG goes by thread), and
        # these threads live as long as the pool.
        self._threads_of_pool = ThreadPoolExecutor(count, thread_name_prefix="blender")

    def __enter__(self) -> Workers:
        self._folder = tempfile.TemporaryDirectory(prefix="upspiral-blender-")
        for _ in range(self.count):
            self._idle.put(None)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with self._lock:
            self._closed = True
            running = list(self._running)
        for process in running:
            process.kill()
        self._threads_of_pool.shutdown(wait=True, cancel_futures=True)
        if self._folder is not None:
            self._folder.cleanup()

    def warm(self) -> None:
        """Start the workers now, beside what else goes on; what keeps them from it, a job says."""
        for _ in range(self.count):
            self._threads_of_pool.submit(self._begin)

    @property
    def pids(self) -> tuple[int, ...]:
        """The processes that are there now."""
        with self._lock:
            return tuple(p.process.pid for p in self._running)

    def submit(self, job: Job[R]) -> Future[R]:
        """The job's result, later.

        The future raises UserError for input that is wrong (a model that cannot be read, bpy not
        installed), RenderError for a job that failed, OSError where the disk is full.
        """
        if self._folder is None:
            raise RuntimeError("the pool is a context manager")
        return self._threads_of_pool.submit(self._work, job)

    def do(self, job: Job[R]) -> R:
        """The job's result, now; errors as of :meth:`submit`."""
        return self.submit(job).result()

    def map(self, jobs: Iterable[Job[R]]) -> Iterator[R]:
        """The results in the order of the jobs; the first that failed raises."""
        futures = [self.submit(job) for job in jobs]
        try:
            for future in futures:
                yield future.result()
        finally:
            for future in futures:
                future.cancel()

    def _begin(self) -> None:
        process = self._idle.get()
        try:
            with contextlib.suppress(UserError):
                process = process or self._start()
        finally:
            self._idle.put(process)

    def _work(self, job: Job[R]) -> R:
        process = self._idle.get()
        try:
            for attempt in (1, 2):
                if process is None:
                    process = self._start()
                try:
                    result = process.ask(job, self.timeout)
                except (_GoneError, TimeoutError) as error:
                    self._drop(process)
                    process = None
                    if attempt == 2 or self._closed:
                        how = (
                            f"took over {self.timeout:g} s" if not str(error) else f"ended: {error}"
                        )
                        raise RenderError(
                            f"Blender {how} at a {type(job).__name__} job, twice",
                            "leave out the newest model, or ask for fewer pixels and samples",
                        ) from None
                    continue
                if process.jobs >= self.recycle_after or process.memory > self.memory:
                    self._drop(process)
                    process = None
                return result
            raise AssertionError
        finally:
            self._idle.put(process)

    def _start(self) -> _Process:
        assert self._folder is not None
        process = _Process(Path(self._folder.name), self._device, self._threads)
        with self._lock:
            self._running.add(process)
            closed = self._closed
        if closed:  # the pool ended while this one started
            self._drop(process)
            raise RenderError("the pool was closed", "start another")
        return process

    def _drop(self, process: _Process) -> None:
        with self._lock:
            self._running.discard(process)
        process.kill()
