"""Serves a blind test: a Gradio page on loopback, or elsewhere behind a token.

Beyond this machine's own addresses everything, sounds included, asks for the token that the
printed link carries; the page keeps it in a cookie, so that it does not stay in the address bar.
A browser is told to load nothing from any other host, and other sites' pages may not ask here.
"""

from __future__ import annotations

import contextlib
import errno
import hmac
import importlib.util
import ipaddress
import os
import secrets
import socket
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

from common.annotation.page import Page, View
from common.errors import UserError

if TYPE_CHECKING:  # they take seconds to import
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

POLICY = (
    "default-src 'self' 'unsafe-inline' 'unsafe-eval' data: blob:; "
    "frame-ancestors 'none'; form-action 'self'; object-src 'none'"
)
HEADERS = {
    "content-security-policy": POLICY,
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
}

REFUSED = {
    errno.EADDRINUSE: "is in use",
    errno.EACCES: "is not yours to take",
    errno.EADDRNOTAVAIL: "is not this machine's",
}


@dataclass(frozen=True)
class Place:
    """A bound address, and the token that browsers need there (None on loopback)."""

    socket: socket.socket
    token: str | None

    @property
    def url(self) -> str:
        """The link to open."""
        host, port = self.socket.getsockname()[:2]
        if ipaddress.ip_address(host).is_unspecified:
            host = socket.gethostname()
        host = f"[{host}]" if ":" in host else host
        return f"http://{host}:{port}/" + (f"?token={self.token}" if self.token else "")


@contextlib.contextmanager
def bound(host: str, port: int) -> Iterator[Place]:
    """Take ``host``:``port`` (0: a free one) before the work that would be in vain without it.

    Raises:
        UserError: gradio is missing; no such address or port, or one in use or not allowed.
    """
    if importlib.util.find_spec("gradio") is None:
        raise UserError("the package gradio is not installed", "pip install 'upspiral[speech]'")
    if not 0 <= port <= 65535:  # the system would take it modulo 65536
        raise UserError(f"there is no port {port}", "choose one up to 65535 (0: a free one)")
    taken: socket.socket | None = None
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        taken = socket.socket(family, kind, protocol)
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        taken.bind(address)
    except (OSError, UnicodeError) as error:
        if taken is not None:
            taken.close()
        if isinstance(error, socket.gaierror | UnicodeError):
            raise UserError(f"no address {host!r}", "give one of this machine's") from error
        why = REFUSED.get(getattr(error, "errno", None) or 0, "cannot be had")
        raise UserError(
            f"{host}:{port} {why}", "choose another --port (0: any) or --host"
        ) from error
    own = ipaddress.ip_address(taken.getsockname()[0]).is_loopback
    with taken:
        yield Place(taken, None if own else secrets.token_urlsafe(24))


def serve(place: Place, page: Page, say: Callable[[str], None]) -> None:
    """Serve ``page`` until Ctrl-C; ``say`` gets the link as soon as it can be opened."""
    import uvicorn

    class Server(uvicorn.Server):
        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets)
            say(f"listening test: {place.url}")
            say("every answer is stored at once; stop with Ctrl-C")

    app = application(page, place.token)
    config = uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=2)
    with contextlib.suppress(KeyboardInterrupt):
        Server(config).run(sockets=[place.socket])


def application(page: Page, token: str | None) -> ASGIApp:
    """The page and its media, guarded."""
    os.environ |= {"GRADIO_ANALYTICS_ENABLED": "False", "HF_HUB_DISABLE_TELEMETRY": "1"}
    import gradio
    from fastapi import FastAPI, HTTPException
    from fastapi.responses import FileResponse

    app = FastAPI(openapi_url=None)

    @app.get("/media/{name}")
    def medium(name: str) -> FileResponse:
        found = page.media.get(name)
        if found is None:
            raise HTTPException(404)
        return FileResponse(found.path, media_type=found.mime)

    def view(asked: Mapping[str, Any]) -> View:
        return page.view(asked)

    folder = Path(__file__).parent
    html, css, js = (
        (folder / f"page.{kind}").read_text(encoding="utf-8") for kind in ("html", "css", "js")
    )
    with gradio.Blocks(title="Blind test", analytics_enabled=False) as blocks:
        # The frame is constant: gradio evaluates its templates as code, so no text may enter them.
        gradio.HTML(
            html_template=html, js_on_load=js, apply_default_css=False, server_functions=[view]
        )
    gradio.mount_gradio_app(
        app,
        blocks,
        path="/",
        css=css,
        footer_links=[],
        run_history=False,
        enable_monitoring=False,
        ssr_mode=False,
        max_file_size=1,
        show_error=False,
    )
    return Guard(app, token)


class Guard:
    """Lets through what comes with the token; without one, only what was meant for loopback."""

    def __init__(self, app: ASGIApp, token: str | None) -> None:
        self._app, self._token = app, token

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self._app(scope, receive, send)
            return
        from starlette.responses import PlainTextResponse, RedirectResponse

        headers = {k.decode("latin-1"): v.decode("latin-1") for k, v in scope["headers"]}
        query = parse_qs(scope["query_string"].decode("latin-1"))
        host = urlsplit("//" + headers.get("host", ""))
        origin = headers.get("origin")
        cookie = f"upspiral-token-{host.port}"  # cookies do not tell ports apart

        async def sends(message: Message) -> None:
            if message["type"] == "http.response.start":
                more = [(k.encode(), v.encode()) for k, v in HEADERS.items()]
                message = {**message, "headers": [*message.get("headers", []), *more]}
            await send(message)

        response: ASGIApp = self._app
        if origin is not None and urlsplit(origin).netloc != host.netloc:
            response = PlainTextResponse("Other sites may not ask here.", 403)
        elif self._token is None:
            # A name that somebody else's DNS points at this machine is not for this page.
            if not _loopback(host.hostname or ""):
                response = PlainTextResponse("This page is for this machine only.", 403)
        elif self._same(query.get("token", [""])[0]):
            response = RedirectResponse("/", 303)
            # Lax and not strict: the link may be opened out of a mail.
            response.set_cookie(cookie, self._token, httponly=True, samesite="lax")
        elif not self._same(_cookies(headers.get("cookie", "")).get(cookie, "")):
            response = PlainTextResponse("Open the link with its token, as it was printed.", 401)
        await response(scope, receive, sends)

    def _same(self, given: str) -> bool:
        return hmac.compare_digest(given.encode(), str(self._token).encode())


def _loopback(name: str) -> bool:
    with contextlib.suppress(ValueError):
        return ipaddress.ip_address(name).is_loopback
    return name == "localhost"


def _cookies(header: str) -> dict[str, str]:
    return dict(part.strip().partition("=")[::2] for part in header.split(";"))
