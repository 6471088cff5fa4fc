"""Connections that HIVE refuses or ends by itself: how many for which reason, and now and then a line in the log.

One line each would let strangers fill a disk.
"""

from enum import StrEnum

import structlog

from app.core.seldom import Seldom

log = structlog.stdlib.get_logger(__name__)


class Ending(StrEnum):
    """Why. The values are labels in monitoring."""

    NOT_HTTP = "not_http"
    HEAD_TOO_SLOW = "head_too_slow"
    HEADERS_TOO_LARGE = "headers_too_large"
    URL_TOO_LONG = "url_too_long"
    BODY_TOO_SLOW = "body_too_slow"
    CHUNK_OVERHEAD = "chunk_overhead"
    UNREAD_BODY = "unread_body"
    ANSWER_NOT_TAKEN = "answer_not_taken"
    BAD_HANDSHAKE = "bad_handshake"
    TOO_MUCH_BEFORE_SIGN_IN = "too_much_before_sign_in"
    TOO_MANY_FRAGMENTS = "too_many_fragments"
    TOO_MANY_FRAMES = "too_many_frames"
    # The process stops, or has failed, before it was answered.
    STOPS = "stops"
    # There was no place for a new one.
    NO_PLACE = "no_place"
    # It gave its place to a new one.
    EVICTED = "evicted"
    # All unfinished bodies together were too large.
    EVICTED_BODY = "evicted_body"


class Endings:
    def __init__(self) -> None:
        self.counts = dict.fromkeys(Ending, 0)
        self._seldom = Seldom()

    def note(self, ending: Ending, client: tuple[str, int] | None) -> None:
        self.counts[ending] += 1
        if (left_out := self._seldom.times(ending)) is not None:
            log.info("a connection is refused", reason=ending, client=client, left_out=left_out)
