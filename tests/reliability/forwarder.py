"""A program that leads connections over TCP to a server's socket file: `forwarder.py ADDRESS PORT SOCKET`.

Socket files are reached from every network namespace, so the server itself can stay where it is.
"""

import asyncio
import socket
import sys
from functools import partial

# As PostgreSQL has it from HIVE, and Redis by itself: a client that is gone must not stay connected for hours.
OPTIONS = {
    socket.TCP_KEEPIDLE: 15,
    socket.TCP_KEEPINTVL: 5,
    socket.TCP_KEEPCNT: 3,
    socket.TCP_USER_TIMEOUT: 20_000,
}


async def carry(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
    while piece := await source.read(65536):
        target.write(piece)
        await target.drain()


async def forward(to: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    kept: socket.socket = writer.get_extra_info("socket")
    kept.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in OPTIONS.items():
        kept.setsockopt(socket.IPPROTO_TCP, option, value)
    try:
        server_reader, server_writer = await asyncio.open_unix_connection(to)
    except OSError:
        writer.transport.abort()
        return
    ways = [asyncio.create_task(carry(reader, server_writer)), asyncio.create_task(carry(server_reader, writer))]
    await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
    for way in ways:
        way.cancel()
    await asyncio.gather(*ways, return_exceptions=True)
    for end in (writer, server_writer):
        end.transport.abort()


async def main(address: str, port: int, to: str) -> None:
    async with await asyncio.start_server(partial(forward, to), address, port) as server:
        sys.stdout.write("listening\n")
        sys.stdout.flush()
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2]), sys.argv[3]))
