"""Runs the parts of HIVE as processes: starts again what dies, and leaves nothing behind, however it ends."""

import os
import selectors
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import IO

from app.embedded.tether import tethered
from app.processes.stopping import STOP_SIGNALS, heeded_stop_signals

FIRST_PAUSE = 0.5
LONGEST_PAUSE = 15.0
STEADY = 30.0  # seconds alive, after which a death counts as the first one again
BROKEN_AFTER = 3  # ends within STEADY, one after the other
LISTEN_SECONDS = 1.0
PATIENCE = 7.0  # seconds between SIGTERM and SIGKILL
IMPATIENCE = 1.0  # seconds after which another Ctrl-C is a second one, and not the first one come twice
PROBE_PAUSE = 0.1
HEAD_START = 5.0  # seconds at most that parts wait for those that start first

Announce = Callable[[str], None]
TellBroken = Callable[[frozenset[str]], None]


@dataclass(frozen=True)
class Part:
    """`fatal_exit_codes` end the whole program when the first start of this part ends with one of them.

    One that `starts_later` leaves the processor to the others until `Supervisor.start_the_rest`, or for `HEAD_START`.
    The process inherits the `descriptors`, under the same numbers each time.
    """

    name: str
    command: Sequence[str]
    restart: bool = True
    fatal_exit_codes: frozenset[int] = frozenset()
    starts_later: bool = False
    descriptors: tuple[int, ...] = ()


class Supervisor:
    """Runs the parts until told to stop.

    `announce` gets one line for people at a time, and `tell_broken` the names of all parts that are broken, whenever
    these are others. `when_stopping` is called once, before the parts are told to end.
    """

    def __init__(
        self,
        parts: Sequence[Part],
        announce: Announce,
        tell_broken: TellBroken = lambda _: None,
        *,
        when_stopping: Callable[[], None] = lambda: None,
    ) -> None:
        self._announce = quietly(announce)
        self._tell_broken = tell_broken
        self._when_stopping = when_stopping
        self._broken: frozenset[str] = frozenset()
        self._runs = [PartRun(part, self._announce) for part in parts]
        self._waiting: list[tuple[Callable[[], bool], Callable[[], None]]] = []
        self._exit_code: int | None = None
        self._stopping_since = 0.0
        self._kill_at: float | None = None

    def when(self, probe: Callable[[], bool], action: Callable[[], None]) -> None:
        """Call `action` once, as soon as `probe` says so.

        It is asked ten times a second, and nothing else goes on meanwhile: it must be quick.
        """
        self._waiting.append((probe, action))

    def start_the_rest(self) -> None:
        """Start the parts that wait for others."""
        for run in self._runs:
            run.wait_no_longer()

    def run(self) -> int:
        """The exit code: 0 when it was told to stop, 1 when a part could not start or a last one failed.

        Must be called by the main thread: signals arrive there, and the parts die with the thread that began
        them.
        """
        with signal_numbers() as signals:
            try:
                for run in self._runs:
                    run.begin()
                while not self._is_done():
                    self._turn(signals)
            finally:
                for run in self._runs:
                    run.kill()
        return self._exit_code or 0

    def _turn(self, signals: "Signals") -> None:
        for number in signals.wait(self._patience()):
            if number in STOP_SIGNALS:
                self._stop_on_signal(number)
        for run in self._runs:
            self._look_after(run)
        self._note_broken()
        if self._exit_code is None:
            self._probe()
        elif self._kill_at is not None and time.monotonic() >= self._kill_at:
            self._kill()

    def _look_after(self, run: "PartRun") -> None:
        code = run.poll()
        if code is not None and self._exit_code is None:
            if run.is_fatal(code):
                self._announce(f"{run.part.name} can't start ({describe(code)}); everything stops.")
                self._stop(1)
            elif not run.part.restart:
                self._announce(f"{run.part.name} has ended ({describe(code)}).")
                self._stop_after_last(code)
            else:
                run.plan_restart(code)
        if self._exit_code is None and run.is_due():
            run.start()

    def _note_broken(self) -> None:
        broken = frozenset(run.part.name for run in self._runs if run.is_broken)
        if broken != self._broken:
            self._broken = broken
            self._tell_broken(broken)

    def _stop_after_last(self, code: int) -> None:
        if not any(run.is_alive or run.start_at is not None for run in self._runs):
            self._stop(1 if code else 0)

    def _stop_on_signal(self, number: int) -> None:
        if self._exit_code is None:
            self._stop(0)
        elif number == signal.SIGINT and time.monotonic() - self._stopping_since >= IMPATIENCE:
            self._kill()

    def _stop(self, exit_code: int) -> None:
        self._exit_code = exit_code
        self._stopping_since = time.monotonic()
        self._kill_at = self._stopping_since + PATIENCE
        self._when_stopping()
        for run in self._runs:
            run.terminate()

    def _kill(self) -> None:
        self._kill_at = None
        if stubborn := [run.part.name for run in self._runs if run.is_alive]:
            self._announce(f"Did not stop in time and is killed: {', '.join(stubborn)}.")
        for run in self._runs:
            run.kill()

    def _is_done(self) -> bool:
        return self._exit_code is not None and not any(run.is_alive for run in self._runs)

    def _probe(self) -> None:
        for waiting in list(self._waiting):
            probe, action = waiting
            if probe():
                self._waiting.remove(waiting)
                action()

    def _patience(self) -> float | None:
        """Seconds to sleep when no signal comes; None is for ever."""
        moments = [self._kill_at, *(moment for run in self._runs for moment in (run.start_at, run.mended_at))]
        pauses = [max(moment - time.monotonic(), 0.0) for moment in moments if moment is not None]
        if self._waiting and self._exit_code is None:
            pauses.append(PROBE_PAUSE)
        return min(pauses, default=None)


@dataclass
class PartRun:
    """A part and the process that it is now, or will be at `start_at`."""

    part: Part
    announce: Announce
    start_at: float | None = None
    _process: subprocess.Popen[bytes] | None = None
    _starts: int = 0
    _quick_ends: int = 0
    _words: "LastWords | None" = None
    _started_at: float = 0.0
    _pause: float = field(default_factory=lambda: FIRST_PAUSE)

    @property
    def is_alive(self) -> bool:
        return self._process is not None

    @property
    def mended_at(self) -> float | None:
        """When a broken part that runs again will have run for long enough."""
        return self._started_at + STEADY if self.is_alive and self._quick_ends >= BROKEN_AFTER else None

    @property
    def is_broken(self) -> bool:
        """Whether it ends at once again and again. It may be running at the moment."""
        if self.mended_at is not None and time.monotonic() >= self.mended_at:
            self._quick_ends = 0
        return self._quick_ends >= BROKEN_AFTER

    def begin(self) -> None:
        if self.part.starts_later:
            self.start_at = time.monotonic() + HEAD_START
        else:
            self.start()

    def wait_no_longer(self) -> None:
        if self._starts == 0 and self.start_at is not None:
            self.start_at = time.monotonic()

    def start(self) -> None:
        self.start_at = None
        self._starts += 1
        self._started_at = time.monotonic()
        self._process = subprocess.Popen(
            # Nothing gentler holds: a part that ignores its signal would live on with nobody to look after
            # it.
            tethered(self.part.command, dies_by=signal.SIGKILL),
            stdin=subprocess.DEVNULL,
            # A group of its own, so that Ctrl-C reaches the supervisor alone and the parts end in good order.
            process_group=0,
            # Listened to only after it has ended at once, so that a part that works speaks for itself.
            stderr=subprocess.PIPE if self._quick_ends else None,
            pass_fds=self.part.descriptors,
        )
        self._words = LastWords(self._process.stderr) if self._process.stderr else None

    def poll(self) -> int | None:
        """The exit code, once, when the process has ended since the last look."""
        if self._process is None or (code := self._process.poll()) is None:
            return None
        # What it has started itself has lost its master.
        self._signal(signal.SIGKILL)
        self._process = None
        return code

    def is_fatal(self, code: int) -> bool:
        return self._starts == 1 and code in self.part.fatal_exit_codes

    def is_due(self) -> bool:
        return self.start_at is not None and time.monotonic() >= self.start_at

    def plan_restart(self, code: int) -> None:
        now = time.monotonic()
        if now - self._started_at >= STEADY:
            self._pause = FIRST_PAUSE
            self._quick_ends = 0
        self._quick_ends += 1
        self.start_at = now + self._pause
        self.announce(f"{self.part.name} has ended ({describe(code)}) and starts again in {self._pause:g} s.")
        self._pause = min(self._pause * 2, LONGEST_PAUSE)
        if self._quick_ends == BROKEN_AFTER:
            reason = self._words.last() if self._words else ""
            self.announce(
                f"{self.part.name} is broken: it ends at once again and again. Its last words: {reason or '-'}"
            )

    def terminate(self) -> None:
        self.start_at = None
        self._signal(signal.SIGTERM)

    def kill(self) -> None:
        self._signal(signal.SIGKILL)
        if self._process is not None:
            self._process.wait()
            self._process = None

    def _signal(self, number: signal.Signals) -> None:
        if self._process is not None:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, number)


class LastWords:
    """Passes on what a part says, and keeps its last line."""

    def __init__(self, said: IO[bytes]) -> None:
        self._said = said
        self._line = b""
        self._listening = threading.Thread(target=self._listen, daemon=True)
        self._listening.start()

    def last(self) -> str:
        """The last line of a part that has ended."""
        self._listening.join(LISTEN_SECONDS)
        return self._line.decode(errors="replace").strip()

    def _listen(self) -> None:
        with self._said:
            for line in self._said:
                self._line = line if line.strip() else self._line
                with suppress(OSError):
                    os.write(sys.stderr.fileno(), line)


class Signals:
    def __init__(self, woken: socket.socket) -> None:
        self._woken = woken
        self._selector = selectors.DefaultSelector()
        self._selector.register(woken, selectors.EVENT_READ)

    def wait(self, seconds: float | None) -> bytes:
        """The numbers of the signals that have come; none when the time is over."""
        return self._woken.recv(4096) if self._selector.select(seconds) else b""


@contextmanager
def signal_numbers() -> Iterator[Signals]:
    """Signals as something to wait for. To block them would not do: other threads would get them."""
    waking, woken = socket.socketpair()
    waking.settimeout(0)
    awaited = (*heeded_stop_signals(), signal.SIGCHLD)
    before = {number: signal.signal(number, lambda *_: None) for number in awaited}
    descriptor_before = signal.set_wakeup_fd(waking.fileno(), warn_on_full_buffer=False)
    try:
        yield Signals(woken)
    finally:
        signal.set_wakeup_fd(descriptor_before)
        for number, handler in before.items():
            signal.signal(number, handler)
        waking.close()
        woken.close()


def quietly(announce: Announce) -> Announce:
    """The terminal may be closed while we still have parts to stop."""

    def announce_if_possible(line: str) -> None:
        with suppress(OSError):
            announce(line)

    return announce_if_possible


def describe(code: int) -> str:
    if code >= 0:
        return f"exit code {code}"
    try:
        return signal.Signals(-code).name
    except ValueError:
        return f"signal {-code}"
