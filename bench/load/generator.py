"""The load generator: a process that gets a `Load` on its standard input and writes `Answers` to its standard output.

    python -m bench.load.generator

It speaks just as much HTTP as the servers measured here: one request at a time on each connection, answers with a
`Content-Length`. The bytes of each request are ready, and of an answer it looks at what it needs to know it.
"""

import asyncio
import os
import pickle
import statistics
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import cycle
from typing import cast

import uvloop

from bench.load.plan import Answers, Load, Request

MOST_TOLD = 5
PATIENCE = 30.0
END_OF_HEAD = b"\r\n\r\n"
LENGTH = b"\r\ncontent-length:"


@dataclass(slots=True)
class Tally:
    """What all connections have seen. `counts_from` and `counts_to` are times of `perf_counter`."""

    counts_from: float
    counts_to: float
    latencies: list[float] = field(default_factory=list)
    answers: int = 0
    wrong: list[str] = field(default_factory=list)

    def add(self, sent: float, now: float) -> None:
        self.answers += 1
        if self.counts_from <= now < self.counts_to:
            self.latencies.append(now - sent)

    def complain(self, request: Request, answer: bytes) -> None:
        if len(self.wrong) < MOST_TOLD:
            line = request.content.partition(b"\r\n")[0].decode()
            self.wrong.append(f"{line}: {answer[:2000].decode(errors='replace')}")


class Connection(asyncio.Protocol):
    """`pause` is the time from one request to the next; without one, each follows upon the answer before it."""

    def __init__(self, tally: Tally, requests: Iterator[Request], pause: float | None) -> None:
        self._tally = tally
        self._requests = requests
        self._pause = pause
        self._buffer = b""
        self._is_ending = False
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are of no class of asyncio's.
        self._transport = cast("asyncio.Transport", transport)

    def begin_after(self, seconds: float) -> None:
        self._due = time.perf_counter() + seconds
        asyncio.get_running_loop().call_later(seconds, self.begin)

    def begin(self) -> None:
        request = next(self._requests, None)
        if request is None:
            self.end()
            self._transport.close()
            return
        self._request = request
        self._sent = time.perf_counter()
        self._transport.write(self._request.content)

    def end(self) -> None:
        """After the answer that is awaited."""
        self._is_ending = True

    def data_received(self, data: bytes) -> None:
        answer = self._buffer + data if self._buffer else data
        head = answer.find(END_OF_HEAD)
        if head < 0 or len(answer) < head + 4 + _length_of_body(answer[:head]):
            self._buffer = answer
            return
        self._buffer = b""
        now = time.perf_counter()
        self._tally.add(self._sent, now)
        if not _is_right(self._request, answer, head):
            self._tally.complain(self._request, answer)
        self._go_on(now)

    def connection_lost(self, exc: Exception | None) -> None:
        if not self._is_ending:
            self._tally.complain(self._request, f"the connection was lost: {exc}".encode())
        if not self.ended.done():
            self.ended.set_result(None)

    def _go_on(self, now: float) -> None:
        if self._is_ending:
            self._transport.close()
        elif self._pause is None:
            self.begin()
        else:
            self._due = max(self._due + self._pause, now)
            asyncio.get_running_loop().call_later(self._due - now, self.begin)


def _length_of_body(head: bytes) -> int:
    at = head.find(LENGTH)
    if at < 0:
        lowered = head.lower()
        at = lowered.find(LENGTH)
        if at < 0:
            return 0
    start = at + len(LENGTH)
    end = head.find(b"\r\n", start)
    return int(head[start : end if end >= 0 else None])


def _is_right(request: Request, answer: bytes, head: int) -> bool:
    if int(answer[9:12]) != request.status:
        return False
    return not request.marker or answer.count(request.marker, head) == request.count


async def generate(load: Load) -> Answers:
    connections, tally = await _connect(load)
    for number, connection in enumerate(connections):
        connection.begin_after(number / load.per_second if load.per_second else 0.0)
    if not load.once:
        await asyncio.sleep(tally.counts_to - time.perf_counter())
        for connection in connections:
            connection.end()
    # One that has paused is not waiting for an answer, and begins a last one.
    async with asyncio.timeout(load.seconds + PATIENCE):
        await asyncio.gather(*(connection.ended for connection in connections))
    return _answers(tally, load)


async def _connect(load: Load) -> tuple[list[Connection], Tally]:
    start = time.perf_counter() + load.warm_up
    tally = Tally(start, start + load.seconds)
    loop = asyncio.get_running_loop()
    pause = load.connections / load.per_second if load.per_second else None
    connections = []
    for number, requests in enumerate(shares(load.requests, load.connections)):
        port = load.ports[number % len(load.ports)]
        way = iter(requests) if load.once else cycle(requests)
        _, connection = await loop.create_connection(partial(Connection, tally, way, pause), "127.0.0.1", port)
        connections.append(connection)
    return connections, tally


def shares(requests: Sequence[Request], count: int) -> list[Sequence[Request]]:
    """As many shares of the requests, in order; of fewer requests each share has one."""
    if len(requests) < count:
        return [[requests[number % len(requests)]] for number in range(count)]
    size = len(requests) // count
    return [requests[number * size : (number + 1) * size] for number in range(count)]


def _answers(tally: Tally, load: Load) -> Answers:
    if len(tally.latencies) < 2:
        tally.wrong.append("Hardly any answer came.")
        tally.latencies += [0.0, 0.0]
    percentiles = statistics.quantiles(tally.latencies, n=100, method="inclusive")
    return Answers(
        counted=len(tally.latencies),
        seconds=load.seconds,
        p50_ms=percentiles[49] * 1000,
        p99_ms=percentiles[98] * 1000,
        all=tally.answers,
        cpu_seconds=time.process_time(),
        wrong=tuple(tally.wrong),
    )


def main() -> None:
    load: Load = pickle.load(sys.stdin.buffer)
    os.nice(load.niceness)
    pickle.dump(uvloop.run(generate(load)), sys.stdout.buffer)


if __name__ == "__main__":
    main()
