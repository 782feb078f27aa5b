"""Servers that sample from weights which change: what each holds, and how new ones reach it.

All servers see the folder with the weights under the same path. What a server is, and what it
holds, its list of models says (``/v1/models``: ``owned_by``, ``root``). New weights reach it

| | an adapter | all weights |
|---|---|---|
| vLLM | ``/v1/load_lora_adapter`` (it needs ``--enable-lora`` and \
``VLLM_ALLOW_RUNTIME_LORA_UPDATING=True``) | by a restart |
| SGLang | ``/load_lora_adapter`` (it needs ``--enable-lora``) | ``/update_weights_from_disk`` |
| others | by a restart | by a restart |

A restart, also of a server that is not there, is a command of the user's, in which ``{model}`` is
the folder and ``{url}`` the server's address. It returns when the old server has ended; the new one
lists the folder as a model's id or root, as vLLM and SGLang do unless they are told another name.
"""

from __future__ import annotations

import contextlib
import shlex
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import httpx
import openai

from common.errors import UserError
from common.home import home
from common.policies.endpoints import Endpoint, Endpoints, ServedError, said, together, translated

T = TypeVar("T")

LOADING = 900.0
"""Seconds within which a server must have taken weights, or be up again."""
LISTING = 30.0
"""Seconds within which a server must say what it holds."""
TIMEOUT, RETRIES, CONCURRENCY = 300.0, 3, 64
"""Of a request for a completion; servers queue what they cannot do at once."""


RESTART = (
    "give --restart COMMAND with {model} and {url}, which ends the server and starts it with the "
    "model in that folder"
)
HOW = {
    "vllm": "start vLLM with --enable-lora and VLLM_ALLOW_RUNTIME_LORA_UPDATING=True, where it "
    "sees UPSPIRAL_HOME under the same path; or give --restart COMMAND",
    "sglang": "start SGLang where it sees UPSPIRAL_HOME under the same path, with --enable-lora "
    "for an adapter",
}
"""What a server needs to take weights, by its kind."""


@dataclass(frozen=True)
class Weights:
    """What servers should sample from. ``original``: as they were before any learning."""

    folder: Path
    adapter: bool
    original: bool

    @property
    def name(self) -> str:
        """What an adapter is called on a server; artifacts are named by their content."""
        return f"upspiral-{self.folder.name[:16]}"


@dataclass(eq=False)
class Engine:
    """A server, the command that restarts it, the model it runs, and the adapters it has loaded."""

    endpoint: Endpoint
    restart: list[str]
    kind: str = ""
    base: str = ""
    root: str = ""
    adapters: dict[str, str] = field(default_factory=dict)
    looked: float = -1.0
    """When this was found out; a failure since then may have changed it."""
    verified: Weights | None = None
    """Weights of which this server's log-probabilities were compared with the policy's."""

    def look(self) -> None:
        """Find out what it is and holds.

        Raises:
            openai.APIError, ServedError: it does not say.
        """
        self.looked = time.monotonic()
        models = self._within(LISTING, lambda client: client.models.list().data)
        if not models:
            raise ServedError(f"{self.endpoint.url} serves no model")
        roots = {model.id: getattr(model, "root", None) or model.id for model in models}
        first = next((m for m in models if not getattr(m, "parent", None)), models[0])
        self.kind, self.base, self.root = first.owned_by, first.id, roots.pop(first.id)
        self.adapters = roots

    def holds(self, weights: Weights) -> bool:
        """Whether requests by :meth:`asking` would be answered from ``weights``."""
        if weights.adapter:
            return any(self._is(name, root, weights) for name, root in self.adapters.items())
        served = Path(self.root)
        learnt = served.is_relative_to(home() / "artifacts")
        return served == weights.folder or (weights.original and not learnt)

    def asking(self, weights: Weights) -> tuple[str, Mapping[str, Any]]:
        """The model to ask for, and fields of the request beside it."""
        if not weights.adapter:
            return self.base, {}
        names = [n for n, root in self.adapters.items() if self._is(n, root, weights)]
        return (self.base, {"lora_path": names[0]}) if self.kind == "sglang" else (names[0], {})

    @staticmethod
    def _is(name: str, root: str, weights: Weights) -> bool:
        return name == weights.name or Path(root) == weights.folder

    def take(self, weights: Weights) -> None:
        """Make the server sample from ``weights``, by a restart if it must.

        Raises:
            UserError: it cannot, or refuses; or the command failed.
            openai.APIError, ServedError: it fails.
        """
        url = self.endpoint.url
        top = url.removesuffix("/v1")
        folder = str(weights.folder)
        try:
            if weights.adapter and self.kind in ("vllm", "sglang"):
                at = url if self.kind == "vllm" else top
                self._post(
                    f"{at}/load_lora_adapter", {"lora_name": weights.name, "lora_path": folder}
                )
                for name in [n for n in self.adapters if n.startswith("upspiral-")]:
                    self._drop(f"{at}/unload_lora_adapter", name)
                self.adapters[weights.name] = folder
            elif not weights.adapter and self.kind == "sglang":
                self._post(f"{top}/update_weights_from_disk", {"model_path": folder})
                self.root = folder
            elif self.restart:
                self.begin(weights)
            else:
                raise UserError(f"{url} cannot take new weights while it runs", RESTART)
        except openai.APIStatusError as error:
            if error.status_code >= 500 or error.status_code == 429:
                raise
            if self.restart:
                self.begin(weights)
                return
            what = "the adapter" if weights.adapter else "the weights"
            raise UserError(f"{url} refuses {what}: {said(error)}", HOW[self.kind]) from error

    def _post(self, url: str, body: Mapping[str, Any]) -> None:
        try:
            self._within(
                LOADING, lambda client: client.post(url, cast_to=httpx.Response, body=dict(body))
            )
        except openai.BadRequestError as error:
            if "already" not in str(error):  # as when the answer to an earlier request was lost
                raise

    def _within(self, seconds: float, ask: Callable[[openai.OpenAI], T]) -> T:
        try:
            return ask(self.endpoint.once.with_options(timeout=seconds))
        except openai.APITimeoutError as error:
            raise ServedError(f"{self.endpoint.url} gave no answer within {seconds:g} s") from error

    def _drop(self, url: str, name: str) -> None:
        """Unload an adapter; one that stays costs the server room, and no result depends on it."""
        del self.adapters[name]
        with contextlib.suppress(openai.APIError, ServedError):
            self._post(url, {"lora_name": name})

    def begin(self, weights: Weights) -> None:
        """Restart the server with ``weights``.

        Raises:
            UserError: the command fails, or the server does not come back with them.
        """
        url = self.endpoint.url
        words = [
            word.replace("{model}", str(weights.folder)).replace("{url}", url)
            for word in self.restart
        ]
        with tempfile.TemporaryFile() as out:
            # In a session of its own: Ctrl-C here must not end the server that it starts.
            try:
                done = subprocess.run(
                    words, stdin=subprocess.DEVNULL, stdout=out, stderr=out,
                    timeout=LOADING, start_new_session=True, check=False,
                )  # fmt: skip
            except subprocess.TimeoutExpired as error:
                raise UserError(
                    f"{words[0]} did not return within {LOADING:.0f} s", RESTART
                ) from error
            except OSError as error:
                raise UserError(f"cannot run {words[0]}: {error.strerror}", RESTART) from error
            if done.returncode:
                out.seek(0)
                last = out.read().decode(errors="replace").strip().splitlines()[-1:]
                raise UserError(
                    f"{words[0]} ended with {done.returncode}: {' '.join(last)[:300]}",
                    RESTART,
                )
        until = time.monotonic() + LOADING
        while True:
            try:
                self.look()
            except (openai.APIError, ServedError) as error:
                if time.monotonic() > until:
                    raise UserError(
                        f"{url} was not up again {LOADING:.0f} s after its restart", RESTART
                    ) from error
                time.sleep(1.0)
                continue
            if self.holds(Weights(weights.folder, weights.adapter, original=False)):
                return
            raise UserError(
                f"{url} was restarted and serves {self.root}, not {weights.folder}",
                RESTART,
            )


class Engines:
    """The servers at ``base_url`` (several with commas between them), and what they hold.

    Raises:
        UserError: what is no address, or no command.
    """

    def __init__(self, base_url: str, restart: str = "", api_key: str | None = None) -> None:
        try:
            words = shlex.split(restart)
        except ValueError as error:
            raise UserError(f"cannot read the command {restart!r}: {error}", RESTART) from error
        self.endpoints = Endpoints(
            base_url, api_key, timeout=TIMEOUT, retries=RETRIES, concurrency=CONCURRENCY
        )
        self.all = {endpoint: Engine(endpoint, words) for endpoint in self.endpoints.all}

    def hold(self, weights: Weights) -> list[Endpoint]:
        """The servers that hold ``weights``, once those have them that did not.

        One that fails is left out as long as another one is there.

        Raises:
            UserError: one refuses them, or all fail.
        """
        engines = [e for e in self.all.values() if not e.endpoint.paused] or [*self.all.values()]
        failures: list[UserError | ServedError] = []
        ready: list[Endpoint] = []

        def give(engine: Engine) -> UserError | ServedError | None:
            endpoint = engine.endpoint
            try:
                if engine.looked <= endpoint.failed or not engine.kind:
                    engine.look()
                if not engine.holds(weights):
                    engine.take(weights)
            except (openai.APIError, ServedError) as error:
                if engine.restart and isinstance(error, openai.APIConnectionError):
                    engine.begin(weights)
                    return None
                self.endpoints.fail(endpoint)
                return translated(error, endpoint, endpoint.once, engine.base)
            return None

        for engine, failure in zip(engines, self.endpoints.map(give, engines), strict=True):
            if failure is None:
                ready.append(engine.endpoint)
            else:
                failures.append(failure)
        if not ready:
            raise mendable(together(failures))
        return ready


def mendable(error: UserError | ServedError) -> UserError:
    """``error`` of servers, as one that ends a run with what to do."""
    if isinstance(error, UserError):
        return error
    return UserError(str(error), "see what the server says, start it again, then resume")
