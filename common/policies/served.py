"""A language model behind OpenAI-compatible servers, as a policy and as a planner or critic.

Requests go to one of several servers by :mod:`common.policies.endpoints`, which also retries.
Added here: counts of usage, answers that must fit a schema, and one clear error. A policy whose
own weights servers sample from is :mod:`common.policies.remote`.
"""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from common.errors import UserError
from common.policies import Seeds, answers, candidate_id
from common.policies.answers import Heard
from common.policies.endpoints import Endpoint, Endpoints, RejectedError, ServedError
from common.records import Candidate, Task, identity
from common.stages import Progress

Message = Mapping[str, Any]
Answer = TypeVar("Answer", bound=BaseModel)
T = TypeVar("T")

__all__ = ["Message", "RefusedError", "RejectedError", "ServedError", "ServedPolicy", "connect"]


class RefusedError(ServedError):
    """The model does not want to answer."""


@dataclass(frozen=True)
class Usage:
    """What has been asked of a server so far."""

    requests: int = 0
    retries: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0


class ServedPolicy:
    """Chat completions of ``model`` at ``base_url`` (vLLM, llama.cpp, Ollama, a vendor).

    ``base_url`` may be several addresses with commas between them, of servers of the same model;
    ``concurrency``, ``timeout`` and ``retries`` as of :class:`Endpoints`. ``logprobs`` asks for the
    tokens' log-probabilities, which not every server gives; without them a candidate's ``logprob``
    is 0.
    """

    def __init__(
        self,
        base_url: str,
        model: str,
        api_key: str | None = None,
        *,
        concurrency: int = 4,
        timeout: float = 60.0,
        retries: int = 5,
        logprobs: bool = False,
        system: str | None = None,
    ) -> None:
        self.base_url, self.model, self.system = base_url, model, system
        self.endpoints = Endpoints(
            base_url, api_key, timeout=timeout, retries=retries, concurrency=concurrency
        )
        self.concurrency, self.logprobs = self.endpoints.width, logprobs
        self.usage = Usage()
        self._rejected: set[str] = set()
        self._lock = threading.Lock()

    def chat(self, messages: Sequence[Message], **options: Any) -> str:
        """The text of one answer. ``options`` are those of the API (``temperature``, ...).

        Raises as :meth:`complete` does.
        """
        return self.complete(messages, **options)[0]

    def complete(self, messages: Sequence[Message], **options: Any) -> tuple[str, Usage]:
        """The text of one answer, and what this request took.

        Raises :class:`UserError` for what the user can mend (address, key, model name),
        :class:`RefusedError` when the model or a filter before it says no, and
        :class:`ServedError` when the server keeps failing.
        """
        answer = self._create(messages, options)
        choice = answer.choices[0]
        refusal = getattr(choice.message, "refusal", None)
        if refusal or choice.finish_reason == "content_filter":
            raise RefusedError(f"{self.model} refuses to answer: {refusal or 'content filter'}")
        content: str = choice.message.content or ""
        used = answer.usage
        took = Usage(1, 0, used.prompt_tokens, used.completion_tokens) if used else Usage(1)
        return content, took

    def ask(
        self,
        messages: Sequence[Message],
        schema: type[Answer],
        *,
        attempts: int = 3,
        **options: Any,
    ) -> Answer:
        """An answer that fits ``schema``; one that does not is sent back with what is wrong.

        Raises as :meth:`read` does.
        """
        return self.read(
            messages,
            schema,
            lambda heard: schema.model_validate(heard.value),
            attempts=attempts,
            **options,
        )

    def read(
        self,
        messages: Sequence[Message],
        schema: type[BaseModel],
        reader: Callable[[Heard], T],
        *,
        attempts: int = 3,
        **options: Any,
    ) -> T:
        """What ``reader`` makes of the JSON that was asked for by ``schema``.

        ``reader`` may take more than ``schema`` does and mend it; what it raises ValueError for is
        sent back. JSON that was cut comes to it, closed, at the last attempt only. Options that
        the server rejects are left out from then on.

        Raises :class:`RefusedError`, or :class:`ServedError` after ``attempts`` answers that do
        not fit, and as :meth:`chat` does.
        """
        options["response_format"] = {
            "type": "json_schema",
            "json_schema": {"name": schema.__name__, "schema": schema.model_json_schema()},
        }
        asked: list[Message] = list(messages)
        problem = ""
        for attempt in range(attempts):
            text = self._without_rejected(asked, options)
            try:
                heard = answers.read(text)
                if not heard.whole and attempt < attempts - 1:
                    raise ValueError("the answer was cut before its JSON ended; be more brief")
                return reader(heard)
            except ValidationError as error:
                first = error.errors()[0]
                where = ".".join(map(str, first["loc"]))
                problem = f"{where}: {first['msg']}" if where else first["msg"]
            except ValueError as error:
                if answers.refuses(text):
                    said = " ".join(text.split())[:200]
                    raise RefusedError(f"{self.model} refuses to answer: {said}") from None
                problem = str(error)
            asked = [
                *messages,
                *([{"role": "assistant", "content": text}] if text.strip() else []),
                {
                    "role": "user",
                    "content": f"That does not fit the schema ({problem}). Answer again, with "
                    f"JSON of this schema only: {json.dumps(schema.model_json_schema())}",
                },
            ]
        raise ServedError(
            f"{self.model} gave no valid {schema.__name__} in {attempts} attempts: {problem}"
        )

    def _without_rejected(self, messages: Sequence[Message], options: Mapping[str, Any]) -> str:
        """:meth:`chat`, again without the options that not every server takes if one is rejected.

        Which it was is told by what works, since servers word it as they like.
        """
        tried: list[dict[str, Any]] = []
        for less in (set(), {"response_format"}, {"response_format", "temperature"}):
            left = {k: v for k, v in options.items() if k not in less | self._rejected}
            if left in tried:
                continue
            tried.append(left)
            try:
                text = self.chat(messages, **left)
            except RejectedError as error:
                rejection = error
                continue
            self._rejected |= less
            return text
        raise rejection

    def map(self, function: Callable[[Any], Any], items: Sequence[Any]) -> list[Any]:
        """``function`` of each item, in order, with at most ``concurrency`` at a time.

        The first error cancels what has not begun and is raised.
        """
        return self.endpoints.map(function, items)

    def generate(
        self,
        tasks: Sequence[Task],
        *,
        n: int,
        seeds: Seeds,
        round: int = 0,
        temperature: float = 1.0,
        top_p: float = 1.0,
        top_k: int = 0,
        max_new_tokens: int = 256,
        stop: Sequence[str] = (),
        progress: Progress | None = None,
    ) -> list[Candidate]:
        """``n`` candidates a task, task by task. The seed is sent; servers may ignore it."""
        work = [(task, index) for task in tasks for index in range(n)]
        done = 0

        def one(item: tuple[Task, int]) -> Candidate:
            nonlocal done
            task, index = item
            options: dict[str, Any] = {
                "temperature": temperature,
                "top_p": top_p,
                "max_tokens": max_new_tokens,
                "seed": seeds(task, index) % 2**31,
            }
            if stop:
                options["stop"] = list(stop)
            if top_k:
                options["extra_body"] = {"top_k": top_k}
            if self.logprobs:
                options["logprobs"] = True
            answer = self._create([{"role": "user", "content": task.prompt}], options)
            choice = answer.choices[0]
            content = (choice.logprobs and choice.logprobs.content) or []
            with self._lock:
                done += 1
                if progress is not None:
                    progress(done, len(work), "samples")
            return Candidate(
                id=candidate_id(task, round, index),
                task=task.id,
                round=round,
                output=choice.message.content or "",
                logprob=sum(token.logprob for token in content),
                tokens=len(content) or (answer.usage.completion_tokens if answer.usage else 0),
                language=task.language,
                meta={"finished": choice.finish_reason == "stop"},
            )

        return self.map(one, work)

    # State: the weights are the server's, so the name is all there is to keep.

    def fingerprint(self) -> str:
        return identity("served", self.base_url, self.model, self.system)

    def save(self, folder: Path) -> None:
        state = {"base_url": self.base_url, "model": self.model, "system": self.system}
        (folder / "served.json").write_text(json.dumps(state))

    def restore(self, folder: Path) -> None:
        """Raises :class:`UserError` when the saved policy is another model or address."""
        state = json.loads((folder / "served.json").read_text())
        if (state["base_url"], state["model"]) != (self.base_url, self.model):
            raise UserError(
                f"the run used {state['model']} at {state['base_url']}, not {self.model}",
                "resume with that model, or start a new run",
            )
        self.system = state["system"]

    def _create(self, messages: Sequence[Message], options: Mapping[str, Any]) -> Any:
        if self.system is not None:
            messages = [{"role": "system", "content": self.system}, *messages]

        def ask(client: Any, endpoint: Endpoint) -> Any:
            raw = client.chat.completions.with_raw_response.create(
                model=self.model, messages=list(messages), **options
            )
            answer = raw.parse()
            if not answer.choices:
                raise ServedError(f"{endpoint.url} answered without a choice")
            return answer, raw.retries_taken

        answer, retries = self.endpoints.call(ask, self.model)
        with self._lock:
            used, now = answer.usage, self.usage
            self.usage = replace(
                now,
                requests=now.requests + 1,
                retries=now.retries + retries,
                prompt_tokens=now.prompt_tokens + (used.prompt_tokens if used else 0),
                completion_tokens=now.completion_tokens + (used.completion_tokens if used else 0),
            )
        return answer


def connect(model: str | None, base_url: str | None, **options: Any) -> ServedPolicy:
    """A served model; its key, if it wants one, is that of ``OPENAI_API_KEY``.

    Raises:
        UserError: the name of the model or the address is missing.
    """
    if not model or not base_url:
        missing = "--model" if not model else "--base-url"
        raise UserError(
            f"a served model needs {missing}",
            "give --model NAME --base-url http://HOST:PORT/v1; a key goes into OPENAI_API_KEY",
        )
    key = os.environ.get("OPENAI_API_KEY")
    return ServedPolicy(base_url, model, key, **{"timeout": 300.0, "retries": 3, **options})
