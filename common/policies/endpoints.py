"""Several servers of one model: each request goes to the one that has the least to do.

A server that fails is asked nothing for a while, and its requests go to the others; when all have
failed at one request, that is the error. Retries with exponential back-off and jitter on 408, 409,
429, 5xx, timeouts and connection errors, and the heed of ``Retry-After``, are the ``openai``
client's. They are for the last server that is left; before, another one is asked at once.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

import openai

from common.errors import UserError

T = TypeVar("T")

PAUSE = 30.0
"""Seconds for which a server that failed is asked nothing, as long as another one answers."""


class ServedError(RuntimeError):
    """The server failed after all retries, or never answered in the form that was asked for."""


class RejectedError(ServedError):
    """The server does not take such a request: an option, or a picture, that it does not know."""


@dataclass(eq=False)
class Endpoint:
    """A server: ``client`` asks it again and again, ``once`` does not."""

    url: str
    client: openai.OpenAI
    once: openai.OpenAI
    under_way: int = 0
    failed: float = -math.inf
    """When it last failed, on the monotonic clock."""

    @property
    def paused(self) -> bool:
        return time.monotonic() - self.failed < PAUSE


class Endpoints:
    """The servers at ``base_url``, addresses with commas between them.

    ``timeout`` (seconds) bounds the wait for each answer, ``retries`` the repeats of a request,
    ``concurrency`` the requests under way, for each server.

    Raises:
        UserError: what is no address.
    """

    def __init__(
        self, base_url: str, api_key: str | None, *, timeout: float, retries: int, concurrency: int
    ) -> None:
        urls = list(dict.fromkeys(url.strip().rstrip("/") for url in base_url.split(",")))
        for url in urls:
            if not url.startswith(("http://", "https://")):
                raise UserError(
                    f"{url!r} is not the address of a server",
                    "use http://HOST:PORT/v1, with commas between several",
                )
        if concurrency < 1:
            raise UserError("concurrency must be 1 or more", "correct the configuration")
        self.width = concurrency * len(urls)
        self.all: list[Endpoint] = []
        for url in urls:
            # Local servers want no key; the client refuses to be without one.
            client = openai.OpenAI(
                base_url=url, api_key=api_key or "none", timeout=timeout, max_retries=retries
            )
            self.all.append(Endpoint(url, client, client.with_options(max_retries=0)))
        self._slots = threading.Semaphore(self.width)
        self._lock = threading.Lock()

    def call(
        self,
        ask: Callable[[openai.OpenAI, Endpoint], T],
        model: str,
        among: Collection[Endpoint] | None = None,
    ) -> T:
        """What ``ask`` gets from one of the servers, or of those ``among`` them.

        Raises:
            UserError: what the user can mend (address, key, the name of the ``model``).
            RejectedError: a server does not take such a request.
            ServedError: all servers failed.
        """
        there = self.all if among is None else list(among)
        failures: dict[Endpoint, UserError | ServedError] = {}
        with self._slots:
            while True:
                endpoint = self._take([e for e in there if e not in failures])
                last = len(failures) + 1 == len(there)
                client = endpoint.client if last else endpoint.once
                try:
                    return ask(client, endpoint)
                except (openai.APIError, ServedError, ValueError, AttributeError) as error:
                    told = translated(error, endpoint, client, model)
                    if not moves_on(error):
                        raise told from error
                    self.fail(endpoint)
                    failures[endpoint] = told
                    if last:
                        raise together(list(failures.values())) from error
                finally:
                    with self._lock:
                        endpoint.under_way -= 1

    def fail(self, endpoint: Endpoint) -> None:
        """Ask ``endpoint`` nothing for a while."""
        endpoint.failed = time.monotonic()

    def map(self, function: Callable[[Any], Any], items: Sequence[Any]) -> list[Any]:
        """``function`` of each item, in order, with at most ``width`` at a time.

        The first error cancels what has not begun and is raised.
        """
        pool = ThreadPoolExecutor(self.width)
        try:
            return list(pool.map(function, items))
        finally:
            pool.shutdown(cancel_futures=True)

    def _take(self, left: Sequence[Endpoint]) -> Endpoint:
        """The one with the least to do; of those that failed lately the one that did so first."""
        with self._lock:
            ready = [e for e in left if not e.paused]
            if ready:
                found = min(ready, key=lambda e: e.under_way)
            else:
                found = min(left, key=lambda e: e.failed)
            found.under_way += 1
            return found


def moves_on(error: Exception) -> bool:
    """Whether another server may do better: not where the request, or the key, is wrong."""
    wrong = (
        openai.AuthenticationError,
        openai.PermissionDeniedError,
        openai.BadRequestError,
        openai.UnprocessableEntityError,
    )
    return not isinstance(error, wrong)


def translated(
    error: Exception, endpoint: Endpoint, client: openai.OpenAI, model: str
) -> UserError | ServedError:
    """``error`` of asking ``endpoint`` for ``model``, as what the user can mend or what failed."""
    url = endpoint.url
    match error:
        case ServedError():
            return error
        case openai.APITimeoutError():
            return ServedError(
                f"{url} gave no answer within {client.timeout:g} s, asked "
                f"{client.max_retries + 1} times"
            )
        case openai.APIConnectionError():
            return UserError(f"no server answers at {url}", "start it, or correct the address")
        case openai.AuthenticationError() | openai.PermissionDeniedError():
            return UserError(f"{url} refuses the key", "give a valid API key")
        case openai.NotFoundError():
            return UserError(f"{url} has no model {model}", "correct the address or the model")
        case openai.BadRequestError() | openai.UnprocessableEntityError():
            return RejectedError(f"{url} rejects the request: {said(error)}")
        case openai.APIError():
            return ServedError(f"{url} failed: {said(error)}")
    return ServedError(f"{url} answered with something else: {error}")


def together(failures: Sequence[UserError | ServedError]) -> UserError | ServedError:
    """The error that all servers failed, each with how."""
    if len(failures) == 1:
        return failures[0]
    mine = [error for error in failures if isinstance(error, UserError)]
    if len(mine) == len(failures):
        return UserError("; ".join(error.message for error in mine), mine[0].remedy)
    told = (e.message if isinstance(e, UserError) else str(e) for e in failures)
    return ServedError("; ".join(told))


def said(error: openai.APIError) -> str:
    """What a server said of its failure; some say it in a form that the client does not read."""
    text = str(error)
    body = error.body
    if isinstance(body, dict) and "detail" in body and "detail" not in text:
        return f"{text}: {str(body['detail'])[:300]}"
    return text
