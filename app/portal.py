"""The portal as an ASGI application: Streamlit's, the two addresses that Streamlit has no way to answer, and a guard.

``/remembered/TICKET`` brings the browser the cookie of a session that has just begun. A cookie comes with an answer to
a request, and Streamlit speaks to its pages through a WebSocket: so the page after a sign-in shows a picture of one
point from here. ``/tonight`` leads to the first page, which has no address of its own.
"""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import urlsplit

import streamlit as st
from starlette.datastructures import MutableHeaders
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app import acting
from app.password_sessions import SESSIONS

_POINT = (
    b"GIF89a\x01\x00\x01\x00\x80\x00\x00\x00\x00\x00\x00\x00\x00!\xf9\x04\x01\x00\x00\x00\x00,\x00\x00\x00\x00"
    b"\x01\x00\x01\x00\x00\x02\x02D\x01\x00;"
)


async def remember(request: Request) -> Response:
    """The same picture for whoever asks; with the session's cookie for the page that was given the ticket."""
    point = Response(_POINT, media_type="image/gif", headers={"Cache-Control": "no-store"})
    if _of_our_page(request) and (key := SESSIONS.redeem(request.path_params["ticket"], datetime.now(UTC))):
        # A browser is one person's at a time: who was signed in with it before is so no longer, in no tab.
        SESSIONS.end(request.cookies.get(acting.cookie_name(), ""))
        point.set_cookie(
            acting.cookie_name(),
            key,
            path=f"{_base()}/",
            httponly=True,
            samesite="strict",
            secure=request.url.scheme == "https",
        )
    return point


async def first_page(request: Request) -> Response:
    """The way from ``/tonight``, with the night that it names."""
    return RedirectResponse(f"{_base()}/" + (f"?{request.url.query}" if request.url.query else ""))


class Guard:
    """What Streamlit answers to whoever knows an address. A file that a page offers is for who is signed in, and no
    cache keeps it; the server's own figures are for nobody; no other site puts a page into a frame of its own."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        path = scope["path"].removeprefix(_base())
        if path.startswith("/_stcore/metrics") or (path.startswith("/media/") and not _may_fetch(Request(scope))):
            await PlainTextResponse("not for you: sign in first\n", 403)(scope, receive, send)
            return

        async def answer(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers["X-Frame-Options"] = "SAMEORIGIN"
                if path.startswith("/media/"):
                    headers["Cache-Control"] = "no-store"
            await send(message)

        await self.app(scope, receive, answer)


def _may_fetch(request: Request) -> bool:
    """Whether the browser that asks is signed in, where people sign in by password."""
    key = request.cookies.get(acting.cookie_name(), "")
    return SESSIONS.stands(key, datetime.now(UTC)) or not SESSIONS.any


def _of_our_page(request: Request) -> bool:
    """Whether a page of this portal asks. Another site's must not sign its visitors in here as somebody else."""
    if site := request.headers.get("sec-fetch-site"):
        return site == "same-origin"
    return urlsplit(request.headers.get("referer", "")).netloc == request.headers.get("host")


def _base() -> str:
    """The path under which a proxy serves the portal; empty where it has a host of its own."""
    path = str(st.get_option("server.baseUrlPath") or "").strip("/")
    return f"/{path}" if path else ""


app = st.App(
    Path(__file__).resolve().parent / "main.py",
    routes=[
        Route(f"{_base()}/remembered/{{ticket}}", remember, methods=["GET"]),
        Route(f"{_base()}/tonight", first_page, methods=["GET"]),
    ],
    middleware=[Middleware(Guard)],
)
