# SPDX-License-Identifier: Apache-2.0
"""`proxy.py FD HOST PORT`: what is accepted on a listening socket goes to HOST:PORT and back.

The socket was made in one network namespace, the connections are made in that of the process: a
door into a sandbox.
"""

import asyncio
import contextlib
import functools
import socket
import sys


async def copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Copy until either end closes."""
    with contextlib.suppress(OSError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    writer.close()


async def serve(
    host: str, port: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> None:
    """Serve one connection."""
    try:
        inner_reader, inner_writer = await asyncio.open_connection(host, port)
    except OSError:
        writer.close()
        return
    await asyncio.gather(copy(reader, inner_writer), copy(inner_reader, writer))


async def main(descriptor: int, host: str, port: int) -> None:
    """Serve for ever."""
    listener = socket.socket(fileno=descriptor)
    server = await asyncio.start_server(functools.partial(serve, host, port), sock=listener)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), sys.argv[2], int(sys.argv[3])))
