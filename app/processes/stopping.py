"""How a process of HIVE is told to stop: by any of these signals, and however often they come.

A service manager signals all processes at once, and a terminal that closes may signal each twice. Neither is
impatience, so a process ends in good order after the second signal as after the first.
"""

import signal
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    # Not while it runs: the keeper uses this too, and has to stay small.
    import asyncio

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)


def heeded_stop_signals() -> tuple[signal.Signals, ...]:
    """Those that this process ends on: without SIGHUP under nohup, which is for outliving the terminal.

    To be asked before the process sets a handler for SIGHUP.
    """
    is_nohup = signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    return tuple(number for number in STOP_SIGNALS if not (is_nohup and number is signal.SIGHUP))


def cancel_when_told(task: "asyncio.Task[None]") -> None:
    """Cancel the task on the first stop signal. Later ones don't disturb its ending."""
    loop = task.get_loop()
    cancel = _once(task.cancel)
    for number in heeded_stop_signals():
        loop.add_signal_handler(number, cancel)


def _once(action: Callable[[], object]) -> Callable[[], None]:
    is_done = False

    def act() -> None:
        nonlocal is_done
        if not is_done:
            is_done = True
            action()

    return act
