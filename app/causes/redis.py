"""Why Redis, as HIVE's own or as Celery's broker, can't be used."""

import errno
import re

from redis import exceptions as faults

from app.causes.cause import Cause, chain
from app.causes.network import Server, why_unreachable

REDIS = Server("Redis", "REDIS_URL", "ssl_ca_certs in REDIS_URL")
# Unless they are set by themselves, the addresses of Celery are that of Redis.
BROKER = Server("the broker", "CELERY_BROKER_URL or REDIS_URL", "its option ssl_ca_certs")
RESULTS = Server("the result backend", "CELERY_RESULT_BACKEND or REDIS_URL", "its option ssl_ca_certs")
_COMMAND = re.compile(r"run the '([\w|]+)' command", re.IGNORECASE)
_TIMED_OUT = re.compile("time.{0,3}out", re.IGNORECASE)


def why_redis(error: BaseException, server: Server = REDIS) -> Cause:
    """The cause of what the client raised, or what was raised because of it."""
    for found in chain(error):
        if cause := _why(found, server):
            return cause
    return Cause(f"{server.at_start} can't be used, for a reason that HIVE doesn't know.")


def _why(error: BaseException, server: Server) -> Cause | None:
    if isinstance(error, faults.AuthenticationError | faults.AuthorizationError):
        return _why_unknown_user(str(error), server)
    for kind, (sentence, may_pass) in _BY_KIND.items():
        if isinstance(error, kind):
            return Cause(sentence.format(server.at_start, server.setting), may_pass)
    if isinstance(error, faults.ResponseError):
        return _why_answered(error, server)
    if isinstance(error, faults.ConnectionError):
        return _why_unconnected(error, server)
    return why_unreachable(TimeoutError() if isinstance(error, faults.TimeoutError) else error, server)


def _why_unknown_user(message: str, server: Server) -> Cause:
    if "without any password" in message or "no password is set" in message:
        sentence = f"{server.at_start} has no password, though {server.setting} has one: take it out, or set it there."
    elif "required" in message or "already authenticated" in message:
        sentence = (
            f"{server.at_start} wants a password: write it into {server.setting}, as redis://user:password@host:6379/0."
        )
    else:
        sentence = f"{server.at_start} refuses the user or the password in {server.setting}: correct them."
    return Cause(sentence, may_pass=False)


def _why_forbidden(message: str, server: Server) -> Cause:
    if command := _COMMAND.search(message):
        what = f"run the command {command[1].upper()}"
    elif "channel" in message:
        what = "use one of HIVE's channels"
    else:
        what = "use one of HIVE's keys"
    user = f"The user of {server.name} may not {what}"
    return Cause(f"{user}: give it the rights that docs/redis.md lists; hive doctor tries each.", may_pass=False)


_BY_KIND: dict[type[BaseException], tuple[str, bool]] = {
    faults.BusyLoadingError: ("{0} is still loading its data; HIVE waits for it.", True),
    faults.ReadOnlyError: ("{0} is a replica that takes no changes: have {1} lead to the primary.", True),
    faults.OutOfMemoryError: ("{0} has reached its maxmemory: give it more, with maxmemory-policy noeviction.", True),
    faults.MasterDownError: ("{0} is a replica that has lost its primary.", True),
    faults.ClusterError: ("{0} is a cluster, which HIVE can't use: have {1} lead to a single server.", False),
    faults.AskError: ("{0} is a cluster, which HIVE can't use: have {1} lead to a single server.", False),
    faults.MaxConnectionsError: ("All of HIVE's connections to {0} are in use.", True),
    faults.InvalidResponse: (
        "What listens at the address in {1} did not answer as Redis does: correct host and port.",
        False,
    ),
}


def _why_answered(error: faults.ResponseError, server: Server) -> Cause | None:
    message = str(error)
    if isinstance(error, faults.NoPermissionError):
        return _why_forbidden(message, server)
    for words, (sentence, may_pass) in _BY_WORDS.items():
        if words in message.lower():
            return Cause(sentence.format(server.at_start, server.setting), may_pass)
    return None


_BY_WORDS: dict[str, tuple[str, bool]] = {
    "misconf": ("{0} can't save its data to disk, and takes no changes until it can: look at its log and disk.", True),
    "index is out of range": ("{0} has no database of the number in {1}: take a lower one.", False),
    "invalid db index": ("{0} has no database of the number in {1}: take a lower one.", False),
    "cluster": ("{0} is a cluster, which HIVE can't use: have {1} lead to a single server.", False),
    "unknown command": ("{0} lacks a command that HIVE needs: use Redis 7, Valkey 8 or newer.", False),
    "max number of clients": ("{0} has too many clients: raise maxclients there, or end some.", True),
    "protected mode": ("{0} is in protected mode and answers its own machine only: set a password there.", False),
    "noreplicas": ("{0} takes no changes while it has too few replicas (min-replicas-to-write).", True),
    "busy": ("{0} is busy with a script of somebody's.", True),
}


def _why_unconnected(error: faults.ConnectionError, server: Server) -> Cause | None:
    message = str(error)
    if "max number of clients" in message:
        return _why_answered(faults.ResponseError(message), server)
    if "Protocol error" in message:
        return Cause(_BY_KIND[faults.InvalidResponse][0].format("", server.setting), may_pass=False)
    if any(isinstance(found, OSError) for found in chain(error)):
        # What it was raised from says more.
        return None
    if _TIMED_OUT.search(message):
        return why_unreachable(TimeoutError(), server)
    if "closed" in message.lower():
        return why_unreachable(ConnectionResetError(errno.ECONNRESET, ""), server)
    return why_unreachable(OSError(message), server)
