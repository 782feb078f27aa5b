"""A policy that learns here and is sampled from elsewhere: by servers that hold its weights.

:class:`RemotePolicy` is an ``HFPolicy`` in everything but :meth:`~RemotePolicy.sample`, which asks
the completions of servers (:mod:`common.policies.engines`): prompts go as tokens, so that no
template or tokenizer of a server comes between, and the tokens that were drawn come back with
their log-probabilities. Each time the policy's state changes, the servers get the folder that it
was restored from, when the next sample is asked for.

Draws are the server's: it gets each sample's seed, and says itself how far it heeds it. Whatever a
server would take from the model's own generation settings (a penalty, a truncation) is set back,
so that it draws as this process would. And it is not taken at its word: the first draws of every
server after new weights are scored here, too, and a server whose log-probabilities are others ends
the run, since it has another model, or counts them after the temperature.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import openai

from common.errors import UserError
from common.policies.endpoints import Endpoint, ServedError
from common.policies.engines import Engines, Weights, mendable
from common.policies.local import HFPolicy
from common.policies.sampling import Sampled
from common.stages import Progress

COMPARED = 4
"""Draws of each server that are scored here, after new weights."""
TOLERANCE = 0.1
"""Nats a token by which a server's log-probabilities may differ: rounding to bfloat16 or 8 bits
comes to a tenth of it, another model to several times as much."""


class Drawn(NamedTuple):
    """A completion, whether its tokens are the server's own, and which end token it has, if any."""

    sampled: Sampled
    exact: bool
    end: list[int]
    by: Endpoint


class RemotePolicy(HFPolicy):
    """An ``HFPolicy`` that servers sample from, once it is connected to some."""

    engines: Engines | None = None

    def connect(self, base_url: str, restart: str = "") -> None:
        """Sample through the servers at ``base_url`` (several with commas between them).

        They were started with the model as it is now; ``restart`` is a command that gives a server
        other weights (:mod:`common.policies.engines`). A key is that of ``OPENAI_API_KEY``.

        Raises:
            UserError: what is no address.
        """
        self.engines = Engines(base_url, restart, os.environ.get("OPENAI_API_KEY"))
        self._first = self.fingerprint()
        self._held: Weights | None = None

    def restore(self, folder: Path) -> None:
        super().restore(folder)
        if self.engines is not None:
            self._print, self._seen = self.fingerprint(), self._versions()
            self._held = Weights(folder, self.has_adapter, self._print == self._first)

    def sample(
        self,
        prompts: Sequence[str],
        *,
        n: int = 1,
        seeds: Sequence[int],
        temperature: float = 1.0,
        top_p: float = 1.0,
        top_k: int = 0,
        max_new_tokens: int = 256,
        stop: Sequence[str] = (),
        opening: str = "",
        progress: Progress | None = None,
    ) -> list[list[Sampled]]:
        """As of ``HFPolicy``; without a connection it is that.

        Raises:
            UserError: no server answers, or takes the weights; one samples from others; or
                something bends the drawing here, which no server would do.
        """
        options: dict[str, Any] = {
            "temperature": temperature, "top_p": top_p, "max_tokens": max_new_tokens,
        }  # fmt: skip
        if self.engines is None:
            options["max_new_tokens"] = options.pop("max_tokens")
            return super().sample(
                prompts, n=n, seeds=seeds, top_k=top_k, stop=stop, opening=opening,
                progress=progress, **options,
            )  # fmt: skip
        if self.steer is not None:
            raise UserError("servers do not steer what is drawn", "run without --base-url")
        if stop:
            options["stop"] = list(stop)
        # What servers would fill in from the model's generation settings, and what they return.
        extra = {"top_k": top_k or -1, "min_p": 0.0, "repetition_penalty": 1.0}
        options |= {"presence_penalty": 0.0, "frequency_penalty": 0.0, "logprobs": 1}
        options["extra_body"] = {**extra, "return_token_ids": True}
        encoded = self.encode_openings(prompts, opening)
        weights = self._weights()
        work = [
            (ids, seeds[row * n + index]) for row, ids in enumerate(encoded) for index in range(n)
        ]
        drawn = self._draw(self.engines, weights, work, options, progress)
        self._compare(self.engines, weights, [ids for ids, _ in work], drawn)
        found = [one.sampled for one in drawn]
        return [found[i : i + n] for i in range(0, len(found), n)] if n else [[] for _ in prompts]

    def _weights(self) -> Weights:
        """What the policy is, as it was restored from a folder."""
        now = self._versions()
        # Other versions may be the same weights: it was its start for a while, as a reference.
        if self._held is None or (now != self._seen and self.fingerprint() != self._print):
            raise UserError(
                "servers sample from saved weights, and these have changed since: the method "
                "samples while it learns",
                "run it without --base-url",
            )
        self._seen = now
        return self._held

    def _versions(self) -> list[tuple[int, int]]:
        """What is another list as soon as a weight is another tensor or was written to."""
        return [(id(tensor), tensor._version) for tensor in self.model.parameters()]

    def _draw(
        self,
        engines: Engines,
        weights: Weights,
        work: Sequence[tuple[list[int], int]],
        options: dict[str, Any],
        progress: Progress | None,
    ) -> list[Drawn]:
        ready = engines.hold(weights)
        lock, done = threading.Lock(), 0

        def one(item: tuple[list[int], int]) -> Drawn:
            nonlocal done
            ids, seed = item

            def ask(client: openai.OpenAI, endpoint: Endpoint) -> Drawn:
                model, more = engines.all[endpoint].asking(weights)
                body = {**options["extra_body"], **more}
                answer = client.completions.create(
                    model=model, prompt=ids, seed=seed % 2**31, **{**options, "extra_body": body}
                )
                return self._read(answer, endpoint)

            found = engines.endpoints.call(ask, weights.name, ready)
            with lock:
                done += 1
                if progress is not None:
                    progress(done, len(work), "samples")
            return found

        try:
            return engines.endpoints.map(one, work)
        except ServedError as error:
            raise mendable(error) from error

    def _read(self, answer: Any, endpoint: Endpoint) -> Drawn:
        """A completion of a server. Its tokens are written anew where it does not name them."""
        if not answer.choices:
            raise ServedError(f"{endpoint.url} answered without a choice")
        choice = answer.choices[0]
        logprobs = (choice.logprobs and choice.logprobs.token_logprobs) or []
        if not logprobs:
            raise ServedError(f"{endpoint.url} gives no log-probabilities")
        # vLLM's name, and SGLang's.
        named = getattr(choice, "token_ids", None) or getattr(choice, "response_token_ids", None)
        ids = list(named or self.tokenizer(choice.text, add_special_tokens=False)["input_ids"])
        end = ids[-1:] if choice.finish_reason == "stop" and ids[-1:] in self._ends else []
        sampled = Sampled(
            ids=ids[: len(ids) - len(end)],
            logprob_sum=float(sum(logprobs)),
            tokens=len(logprobs),
            finished=choice.finish_reason == "stop",
        )
        return Drawn(sampled, bool(named), end, endpoint)

    @property
    def _ends(self) -> list[list[int]]:
        """The tokens that end a completion on a server, which knows the model's own, too."""
        own = getattr(self.model.generation_config, "eos_token_id", None)
        more = own if isinstance(own, list) else [own]
        return [[token] for token in {self.tokenizer.eos_token_id, *more} if token is not None]

    def _compare(
        self,
        engines: Engines,
        weights: Weights,
        prompts: Sequence[list[int]],
        drawn: Sequence[Drawn],
    ) -> None:
        """Score the first draws of servers that were not compared with ``weights`` yet."""
        for endpoint, engine in engines.all.items():
            mine = [i for i, one in enumerate(drawn) if one.by is endpoint and one.exact]
            if engine.verified == weights or not mine:
                continue
            some = mine[:COMPARED]
            own = self.logprobs_of_ids(
                [prompts[i] for i in some], [drawn[i].sampled.ids + drawn[i].end for i in some]
            )
            theirs = sum(drawn[i].sampled.logprob_sum for i in some)
            apart = abs(theirs - sum(own.sums)) / sum(own.counts)
            if apart > TOLERANCE:
                raise UserError(
                    f"{endpoint.url} does not sample from these weights: its log-probabilities "
                    f"are {apart:.2f} nats a token from the policy's",
                    "start it with the same --model; SGLang with SGLANG_RETURN_ORIGINAL_LOGPROB=1",
                )
            engine.verified = weights
