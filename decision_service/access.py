"""Who may call: API keys by role; with no key configured only callers on this machine are served."""

from __future__ import annotations

import hmac
import time
from collections.abc import Awaitable, Callable, Mapping
from functools import lru_cache
from ipaddress import ip_address
from typing import Annotated

from fastapi import Depends, Request
from starlette.datastructures import URL

from adapters.keys import Role, fingerprint
from decision_service.problems import Problem

LOOK_SECONDS = 0.1
KEY_HEADERS = "Authorization: Bearer KEY, or X-Api-Key"
# What each role may do: calls name the least that they need.
MAY: Mapping[Role, frozenset[Role]] = {
    "page": frozenset({"page"}),
    "read": frozenset({"read"}),
    "write": frozenset({"page", "read", "write"}),
    "admin": frozenset({"page", "read", "write", "admin"}),
}


class Access:
    """The live keys by their SHA-256; replaced as a whole when keys change."""

    def __init__(self, admin_key: str | None) -> None:
        self._admin = fingerprint(admin_key) if admin_key else None
        self.keys: Mapping[str, tuple[str, Role]] = {}
        # Looks for keys that another worker made a moment ago; set where the worker is wired.
        self.refresh: Callable[[], Awaitable[None]] | None = None
        self._looked_at = 0.0

    async def look_for(self, request: Request) -> None:
        """Before a key counts as unknown, see whether it is new; at most ten times a second, whoever asks."""
        if self.refresh is None or self.is_open:
            return
        secret = _secret(request)
        if secret is None:
            return
        mark, now = fingerprint(secret), time.monotonic()
        if mark != self._admin and mark not in self.keys and now - self._looked_at >= LOOK_SECONDS:
            self._looked_at = now
            await self.refresh()

    @property
    def is_open(self) -> bool:
        """No key is configured."""
        return self._admin is None and not self.keys

    def check_place(self, request: Request) -> None:
        """Refuse callers from elsewhere while there is no key to know them by.

        Raises:
            Problem: 403.
        """
        if self.is_open and not is_local(request):
            raise Problem(403, "Forbidden", "no API key is configured, so only this machine is served")

    def actor(self, request: Request, needed: Role, headers: str = KEY_HEADERS) -> str:
        """The caller's name for the audit log; ``headers`` tells one without a key where to put it.

        Raises:
            Problem: 401 without a valid key, 403 when its role does not suffice or the caller is elsewhere.
        """
        self.check_place(request)
        if self.is_open:
            return "local"
        secret = _secret(request)
        if secret is None:
            raise Problem(401, "Unauthorized", f"an API key is needed: {headers}")
        mark = fingerprint(secret)
        if self._admin is not None and hmac.compare_digest(mark, self._admin):
            return "admin"
        found = self.keys.get(mark)
        if found is None:
            raise Problem(401, "Unauthorized", "this API key is not known")
        name, role = found
        if needed not in MAY[role]:
            raise Problem(403, "Forbidden", f"this key's role is {role!r}, the call needs {needed!r}")
        return name


def is_local(request: Request) -> bool:
    """Whether the call came over loopback and was not passed on by a proxy."""
    scope, client, server = request.scope, request.scope.get("client"), request.scope.get("server")
    host: bytes | None = None
    for name, value in scope["headers"]:
        if name in (b"x-forwarded-for", b"forwarded"):
            return False
        if name == b"host" and host is None:
            host = value
    # The name that was asked for counts too: a web page can have its own name point at this machine.
    place = tuple(server) if server else None
    return client is not None and _is_loopback(client[0]) and _names_this_machine(host, place)


@lru_cache(maxsize=1024)
def _names_this_machine(host: bytes | None, server: tuple[str, int | None] | None) -> bool:
    """Whether the address that was asked for, by its header or else by the socket, is loopback."""
    headers = [] if host is None else [(b"host", host)]
    url = URL(scope={"scheme": "http", "server": server, "path": "/", "query_string": b"", "headers": headers})
    return _is_loopback(url.hostname or "")


@lru_cache(maxsize=1024)
def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False


def _secret(request: Request) -> str | None:
    scheme, _, value = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer" and value:
        return value.strip()
    return request.headers.get("x-api-key")


async def page(request: Request) -> str:
    """Needs role page: rank, reward, activate, activity."""
    return await _actor(request, "page")


async def reader(request: Request) -> str:
    """Needs role read."""
    return await _actor(request, "read")


async def writer(request: Request) -> str:
    """Needs role write."""
    return await _actor(request, "write")


async def admin(request: Request) -> str:
    """Needs role admin."""
    return await _actor(request, "admin")


async def _actor(request: Request, needed: Role) -> str:
    access = _access(request)
    await access.look_for(request)
    return access.actor(request, needed)


def _access(request: Request) -> Access:
    access: Access = request.app.state.service.access
    return access


Page = Annotated[str, Depends(page)]
Reader = Annotated[str, Depends(reader)]
Writer = Annotated[str, Depends(writer)]
Admin = Annotated[str, Depends(admin)]
