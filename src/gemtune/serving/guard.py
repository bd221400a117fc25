"""What every request must have before it is looked at: a Host of this server's, the token, JSON of a sane size."""

from __future__ import annotations

import asyncio
import hmac
import json
from collections.abc import Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from gemtune.errors import RequestError
from gemtune.serving.hosts import host_name, is_address

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

MOST_BODY = 32 << 20  # bytes of a request; images in it are a third larger than their files
BODY_SECONDS = 60.0  # for all of it
KINDS = {401: "authentication_error", 404: "not_found_error", 429: "rate_limit_error"}


class JsonResponse(Response):
    """JSON as UTF-8, which no cache keeps."""

    media_type = "application/json"

    def __init__(self, value: object, status: int = 200, headers: dict[str, str] | None = None):
        text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
        super().__init__(text, status, {"cache-control": "no-store", **(headers or {})})


def error_json(error: RequestError) -> dict[str, object]:
    """An error in OpenAI's shape.

    >>> error_json(RequestError("top_k: unknown or unsupported field", "top_k"))["error"]["param"]
    'top_k'
    """
    kind = KINDS.get(error.status, "server_error" if error.status >= 500 else "invalid_request_error")
    return {"error": {"message": str(error), "type": kind, "param": error.field, "code": error.code}}


async def refuse(request: Request, error: Exception) -> Response:
    """The answer to a request that is refused, by us or by Starlette's routes."""
    if isinstance(error, HTTPException):
        found = f"{request.method} {request.url.path}"
        error = RequestError(f"{found}: not here; this server has POST /v1/chat/completions", status=error.status_code)
    if not isinstance(error, RequestError):
        raise error
    headers = {401: {"www-authenticate": "Bearer"}, 429: {"retry-after": "1"}}.get(error.status)
    return JsonResponse(error_json(error), error.status, headers)


@dataclass(frozen=True)
class Guard:
    """Around an app: refuses a foreign Host, which is how a web page reaches a local server by another name, and a
    wrong token, before anything else of a request is read.

    A Host that is an address is always this server's own; `names` are the others that it answers to.
    """

    app: ASGIApp
    token: str | None
    names: Collection[str]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            try:
                self._check(Headers(scope=scope))
            except RequestError as error:
                response = await refuse(Request(scope), error)
                await response(scope, receive, send)
                return
        await self.app(scope, receive, send)

    def _check(self, headers: Headers) -> None:
        name = host_name(headers.get("host", ""))
        if not (is_address(name) or name in self.names):
            known = ", ".join(sorted(self.names))
            raise RequestError(
                f"Host {name[:100]!r} is not this server's; it answers to addresses and {known}", status=403
            )
        if self.token is not None:
            scheme, _, token = headers.get("authorization", "").partition(" ")
            is_right = hmac.compare_digest(token.strip().encode(), self.token.encode())
            if scheme.lower() != "bearer" or not is_right:
                raise RequestError(
                    "wrong or no token; send the server's as `Authorization: Bearer TOKEN`",
                    status=401,
                    code="invalid_api_key",
                )


async def body_of(request: Request) -> bytes:
    """The body of a JSON request; RequestError where it is something else, too large, or does not come.

    One that is too large is read to its end and thrown away: a client that is still sending would not read the answer.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":
        raise RequestError(f"content-type is {kind[:60]!r}; wanted application/json", status=415)
    parts, size = list[bytes](), 0
    try:
        async with asyncio.timeout(BODY_SECONDS):
            async for part in request.stream():
                size += len(part)
                parts.append(part)
                if size > MOST_BODY:
                    parts.clear()
    except ClientDisconnect as error:
        raise RequestError("the client has left", status=499) from error
    except TimeoutError as error:
        raise RequestError(f"the request did not come within {BODY_SECONDS:.0f} s", status=408) from error
    if size > MOST_BODY:
        raise RequestError(
            f"the request has {size / 1e6:.0f} MB; this server reads up to {MOST_BODY / 1e6:.0f} MB", status=413
        )
    return b"".join(parts)
