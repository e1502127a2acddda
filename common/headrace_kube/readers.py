# SPDX-License-Identifier: Apache-2.0
"""Who may read a path of ours: whom the API server lets `get` it as a nonResourceURL."""

import asyncio
import hashlib
import time
from collections.abc import Callable
from http import HTTPStatus
from typing import cast

from headrace_api import Json
from headrace_http import Reply, text

from .client import Kube, KubeError

_REVIEW = "/apis/authentication.k8s.io/v1/tokenreviews"
_ACCESS = "/apis/authorization.k8s.io/v1/subjectaccessreviews"

ASK_AGAIN_SECONDS = 60.0
AWAY_SECONDS = 3600.0
"""For how long who might read may go on while the API server cannot be asked."""
_REMEMBERED = 64
_AT_ONCE = 2


class Readers:
    """A guard (headrace_http) for a path: the bearer token's owner must have the right."""

    def __init__(self, kube: Kube, path: str, clock: Callable[[], float] = time.monotonic) -> None:
        """`clock` is in seconds and does not go back."""
        self._kube = kube
        self._path = path
        self._clock = clock
        self._asking = asyncio.Semaphore(_AT_ONCE)
        self._allowed: dict[bytes, float] = {}
        """Hash of a token -> when the API server last said yes; the others are asked for anew."""

    async def __call__(self, authorization: str) -> Reply | None:
        """Return why the owner of this header may not read, None when they may."""
        scheme, _, token = authorization.partition(" ")
        if scheme.lower() != "bearer" or not token:
            return text(
                HTTPStatus.UNAUTHORIZED, "send a service account's token: Authorization: Bearer"
            )
        key = hashlib.sha256(token.encode()).digest()
        if self._since(key) < ASK_AGAIN_SECONDS:
            return None
        async with self._asking:
            try:
                refusal = await self._ask(token)
            except KubeError as error:
                if not error.status and self._since(key) < AWAY_SECONDS:
                    return None
                return text(HTTPStatus.SERVICE_UNAVAILABLE, f"cannot review the token: {error}")
        self._allowed.pop(key, None)
        if refusal is None:
            while len(self._allowed) >= _REMEMBERED:
                del self._allowed[next(iter(self._allowed))]
            self._allowed[key] = self._clock()
        return refusal

    def _since(self, key: bytes) -> float:
        return self._clock() - self._allowed.get(key, float("-inf"))

    async def _ask(self, token: str) -> Reply | None:
        review = await self._kube.request(
            "POST",
            _REVIEW,
            body={
                "apiVersion": "authentication.k8s.io/v1",
                "kind": "TokenReview",
                "spec": {"token": token},
            },
        )
        status = cast(Json, review.get("status") or {})
        if not status.get("authenticated"):
            return text(HTTPStatus.UNAUTHORIZED, "the API server does not know this token")
        user = cast(Json, status["user"])
        access = await self._kube.request(
            "POST",
            _ACCESS,
            body={
                "apiVersion": "authorization.k8s.io/v1",
                "kind": "SubjectAccessReview",
                "spec": {
                    "user": user.get("username", ""),
                    "uid": user.get("uid", ""),
                    "groups": user.get("groups") or [],
                    "extra": user.get("extra") or {},
                    "nonResourceAttributes": {"path": self._path, "verb": "get"},
                },
            },
        )
        if cast(Json, access.get("status") or {}).get("allowed"):
            return None
        return text(
            HTTPStatus.FORBIDDEN,
            f"{user.get('username')} may not get the nonResourceURL {self._path}",
        )
