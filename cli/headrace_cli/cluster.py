# SPDX-License-Identifier: Apache-2.0
"""A command's conversation with a cluster: connect, ask, explain what went wrong."""

import argparse
import asyncio
import logging
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import TypeVar

from headrace_cli.errors import CommandError
from headrace_kube import Kube, KubeError

Result = TypeVar("Result")

# Its warnings say what its exceptions say.
logging.getLogger("kubernetes.aio.config").setLevel(logging.ERROR)


def ask(arguments: argparse.Namespace, work: Callable[[Kube], Awaitable[Result]]) -> Result:
    """Do the work with a connection to the cluster that the options name. Raises CommandError."""

    async def session() -> Result:
        async with await Kube.connect(arguments.kubeconfig, arguments.context) as kube:
            return await work(kube)

    try:
        return asyncio.run(session())
    except KubeError as error:
        raise CommandError(explain(error)) from error


def explain(error: KubeError) -> str:
    """Return one line: what the API server said, and what to do about it."""
    text = " ".join(error.message.split())
    if error.status == 0:
        return f"{text}; name a cluster with --kubeconfig or --context"
    if error.status == HTTPStatus.UNAUTHORIZED:
        return f"the API server does not accept the credentials of the kubeconfig ({text})"
    if error.absent and "page not found" in text:
        return "Headrace is not installed in this cluster: it lacks the kinds of headrace.dev"
    return text


def forbidden(error: KubeError) -> bool:
    """Whether the user may not do this."""
    return error.status == HTTPStatus.FORBIDDEN
