"""Ties a program to the process that starts it: when that one dies, by whatever, the kernel signals this one.

It is a program of its own, because the tie has to be made between fork and exec, after any change of user.
"""

import ctypes
import os
import signal
import sys
from collections.abc import Sequence

PR_SET_PDEATHSIG = 1
CLONE_NEWUSER = 0x10000000

SAME_USER = "same"
NAMESPACE = "namespace"


def tethered(command: Sequence[str], *, dies_by: signal.Signals, identity: str = SAME_USER) -> list[str]:
    """The command line that runs `command` tied to the calling process.

    It must be started by a thread that lives as long as the process: the kernel watches the thread.
    `identity` is as whom it runs: SAME_USER, NAMESPACE (the same user, who takes itself for an ordinary one)
    or "<uid>:<gid>".
    """
    return [sys.executable, "-I", "-S", __file__, dies_by.name, str(os.getpid()), identity, *command]


def main(arguments: list[str]) -> None:
    dies_by, parent, identity, *command = arguments
    become(identity)
    tie(signal.Signals[dies_by], int(parent))
    forget_signal_settings()
    try:
        os.execvp(command[0], command)  # noqa: S606 - a shell is the last thing wanted here
    except OSError as error:
        sys.exit(f"{command[0]}: {error.strerror}")


def become(identity: str) -> None:
    if identity == NAMESPACE:
        enter_user_namespace()
    elif identity != SAME_USER:
        uid, gid = map(int, identity.split(":"))
        os.setgroups([])
        os.setgid(gid)
        os.setuid(uid)


def enter_user_namespace() -> None:
    """From here on this process sees itself as user 1000, and its own files too. Outside nothing changes."""
    uid, gid = os.geteuid(), os.getegid()
    call("unshare", CLONE_NEWUSER)
    for name, content in (("setgroups", "deny"), ("uid_map", f"1000 {uid} 1"), ("gid_map", f"1000 {gid} 1")):
        setting = os.open(f"/proc/self/{name}", os.O_WRONLY)
        os.write(setting, content.encode())
        os.close(setting)


def tie(dies_by: signal.Signals, parent: int) -> None:
    if sys.platform != "linux":
        return
    call("prctl", PR_SET_PDEATHSIG, int(dies_by), 0, 0, 0)
    if os.getppid() != parent:
        # It died before the tie was made, so that no signal will come.
        sys.exit(1)


def forget_signal_settings() -> None:
    """Python ignores some signals, and what is ignored or blocked stays so through exec."""
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    for ignored in (signal.SIGPIPE, signal.SIGXFSZ, signal.SIGINT):
        signal.signal(ignored, signal.SIG_DFL)


def call(function: str, *arguments: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if getattr(libc, function)(*arguments) != 0:
        error = ctypes.get_errno()
        raise OSError(error, f"{function}: {os.strerror(error)}")


if __name__ == "__main__":
    main(sys.argv[1:])
