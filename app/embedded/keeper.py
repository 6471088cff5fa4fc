"""The keeper: the one process that runs the embedded servers of a data folder.

A HIVE process connects to its socket and says which servers it needs; the open connection is its wish. The
kernel closes the connection however that process ends, and with the last one the keeper stops the servers and
goes too. Told to stop, it waits for that: the others who were told may need their servers to finish what they do.

Both ways a message is one line of JSON: {"postgres": <folder of its programs>, "valkey": <path of its
program>}, each of them or null, is answered by {"ready": true} or {"error": "<one sentence>"}.
"""

import argparse
import errno
import fcntl
import json
import os
import selectors
import signal
import socket
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from app.embedded.charge import Charge
from app.embedded.folder import Folder, ServerError, open_log, rotate, sentence_of
from app.embedded.identity import IdentityKind
from app.embedded.postgres import Postgres
from app.embedded.process import Steps
from app.embedded.server import Server
from app.embedded.valkey import Valkey
from app.processes.stopping import heeded_stop_signals

GRACE = 5.0  # seconds for the first client to come
TICK = 0.02  # seconds between two looks at a server that starts or stops
LOCK_PATIENCE = 0.5  # seconds; a starting client looks at the lock too, for a moment

LONGEST_HELLO = 65536


@dataclass
class Client:
    connection: socket.socket
    wishes: dict[str, str] = field(default_factory=dict)
    is_waiting: bool = False
    received: bytes = b""


class Keeper:
    def __init__(self, listener: socket.socket, charges: dict[str, Charge], log: Callable[[str], None]) -> None:
        self._listener = listener
        self._charges = charges
        self._log = log
        self._clients: dict[socket.socket, Client] = {}
        self._departed: list[socket.socket] = []
        self._selector = selectors.DefaultSelector()
        self._give_up_at: float | None = time.monotonic() + GRACE
        self._is_told_to_stop = False
        self._has_noted_signal = False

    def run(self) -> None:
        """Returns when no client is left; the servers are down by then."""
        self._listen_to_signals()
        self._listener.settimeout(0)
        self._selector.register(self._listener, selectors.EVENT_READ, self._accept)
        while not self._is_done():
            self._turn()
        self._shut_down()

    def _turn(self) -> None:
        for key, _ in self._selector.select(self._patience()):
            key.data()
        self._note_stop_signal()
        for charge in self._charges.values():
            charge.proceed()
        for client in list(self._clients.values()):
            if client.is_waiting:
                self._answer(client)

    def _is_done(self) -> bool:
        if self._clients:
            return False
        return self._is_told_to_stop or self._give_up_at is None or time.monotonic() >= self._give_up_at

    def _patience(self) -> float | None:
        """Seconds to sleep when nothing happens; None is for ever."""
        moments = [charge.next_step_at for charge in self._charges.values()] + [self._give_up_at]
        known = [moment for moment in moments if moment is not None]
        return max(min(known) - time.monotonic(), TICK) if known else None

    def _accept(self) -> None:
        try:
            connection, _ = self._listener.accept()
        except OSError:
            # It has gone again before it was its turn.
            return
        connection.settimeout(0)
        client = Client(connection)
        self._clients[connection] = client
        self._give_up_at = None
        self._selector.register(connection, selectors.EVENT_READ, lambda: self._read(client))

    def _read(self, client: Client) -> None:
        try:
            received = client.connection.recv(LONGEST_HELLO)
        except BlockingIOError:
            return
        except OSError:
            received = b""
        client.received += received
        if not received or len(client.received) > LONGEST_HELLO:
            self._part_with(client)
        elif client.received.endswith(b"\n"):
            self._hear(client)

    def _hear(self, client: Client) -> None:
        try:
            hello = json.loads(client.received)
            client.wishes = {name: str(hello[name]) for name in self._charges if hello[name]}
        except (ValueError, KeyError, TypeError):
            self._part_with(client)
            return
        client.received, client.is_waiting = b"", True
        for name, program in client.wishes.items():
            self._charges[name].ask_for(program)

    def _answer(self, client: Client) -> None:
        wanted = [self._charges[name] for name in client.wishes]
        error = next((charge.error for charge in wanted if charge.error is not None), None)
        if error is not None:
            self._send(client, {"error": error})
            self._part_with(client)
        elif all(charge.is_up for charge in wanted):
            client.is_waiting = False
            self._send(client, {"ready": True})

    def _send(self, client: Client, message: dict[str, object]) -> None:
        try:
            client.connection.sendall(json.dumps(message).encode() + b"\n")
        except OSError as error:
            # Its end of the connection will be read in a moment.
            self._log(f"A client went before its answer: {sentence_of(error)}")

    def _part_with(self, client: Client) -> None:
        """The last one to go sees its connection end when all is down, and may wait for that."""
        self._selector.unregister(client.connection)
        del self._clients[client.connection]
        self._departed.append(client.connection)
        if self._clients:
            self._see_off()

    def _see_off(self) -> None:
        while self._departed:
            self._departed.pop().close()

    def _shut_down(self) -> None:
        # From here on a new client finds no socket, and brings its own keeper as soon as the lock is free.
        self._selector.unregister(self._listener)
        Path(self._listener.getsockname()).unlink(missing_ok=True)
        self._listener.close()
        for client in list(self._clients.values()):
            self._part_with(client)
        stops: list[Steps] = [charge.stop() for charge in self._charges.values()]
        while stops := [steps for steps in stops if goes_on(steps)]:
            self._selector.select(TICK)

    def _listen_to_signals(self) -> None:
        waking, woken = socket.socketpair()
        for end in (waking, woken):
            end.settimeout(0)
        signal.set_wakeup_fd(waking.fileno(), warn_on_full_buffer=False)
        self._selector.register(woken, selectors.EVENT_READ, lambda: woken.recv(4096))
        self._waking = waking
        signal.signal(signal.SIGCHLD, lambda *_: None)
        for number in heeded_stop_signals():
            signal.signal(number, self._stop_on_signal)

    def _stop_on_signal(self, *_: object) -> None:
        self._is_told_to_stop = True

    def _note_stop_signal(self) -> None:
        if self._is_told_to_stop and self._clients and not self._has_noted_signal:
            self._has_noted_signal = True
            self._log("Told to stop; the servers stay up for the programs that use them, and stop with the last one.")


def goes_on(steps: Steps) -> bool:
    return next(steps, StopIteration) is not StopIteration


def take_lock(folder: Folder) -> int | None:
    """Hold the data folder for the life of this process; None when another keeper does."""
    lock = os.open(folder.lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    deadline = time.monotonic() + LOCK_PATIENCE
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno != errno.EWOULDBLOCK:
                raise
        else:
            return lock
        if time.monotonic() > deadline:
            return None
        time.sleep(TICK)


def listen(folder: Folder) -> socket.socket:
    folder.keeper_socket.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(folder.keeper_socket))
    listener.listen(128)
    return listener


def go_to_background(log_path: Path) -> None:
    """Let the starting process go on, with nothing to reap later. Clients can connect already."""
    rotate(log_path)
    output = open_log(log_path)
    nothing = os.open(os.devnull, os.O_RDONLY)
    if os.fork():
        os._exit(0)
    for source, target in ((nothing, 0), (output, 1), (output, 2)):
        os.dup2(source, target)
    os.close(output)
    os.close(nothing)


def log(message: str) -> None:
    # A full disk may cost us the line, and nothing else.
    with suppress(OSError):
        sys.stderr.write(f"{time.strftime('%Y-%m-%d %H:%M:%S', time.gmtime())} UTC [{os.getpid()}] {message}\n")
        sys.stderr.flush()


def keep(folder: Folder, *, durable: bool, identity: IdentityKind | None) -> None:
    folder.prepare()
    if take_lock(folder) is None:
        return
    # The keeper that held it until now may have cleared its runtime folder away.
    folder.prepare()
    listener = listen(folder)
    go_to_background(folder.log("keeper"))
    os.chdir("/")
    servers: dict[str, Server] = {
        "postgres": Postgres(folder, durable=durable, identity=identity),
        "valkey": Valkey(folder, durable=durable),
    }
    keeper = Keeper(listener, {name: Charge(server, log) for name, server in servers.items()}, log)
    keeper.run()
    folder.clear_runtime()
    # The last client waits for the end of its connection, and takes it for ours.
    os._exit(0)


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="app.embedded.keeper", description="Keeps the embedded servers of a data folder."
    )
    parser.add_argument("data_dir")
    parser.add_argument("--throwaway", action="store_true", help="data need not survive a crash of the machine")
    parser.add_argument("--identity", type=IdentityKind, choices=list(IdentityKind), help="as whom PostgreSQL runs")
    arguments = parser.parse_args()
    try:
        keep(Folder.at(arguments.data_dir), durable=not arguments.throwaway, identity=arguments.identity)
    except ServerError as error:
        sys.exit(str(error))
    except OSError as error:
        sys.exit(f"The data folder {arguments.data_dir} can't be used: {sentence_of(error)}.")


if __name__ == "__main__":
    main()
