"""The readers of this process, and giving each event to those that may read it."""

import asyncio
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from uuid import UUID

from cachetools import FIFOCache

from app.core.permissions import ActorType, Visibility
from app.events.filters import EventFilter
from app.events.published import PublishedEvent
from app.events.types import AccountChanged, SignInEnded
from app.models import EventType
from app.websockets.connection import CloseCode, Connection, ReaderKind
from app.websockets.parcel import Parcel, parcels_of
from app.websockets.tally import Tally

# More than end in the moment between looking a token up and being here.
REMEMBERED_ENDS = 1024


@dataclass(frozen=True, slots=True)
class _Group:
    """Readers of one group are to have the same of all that concerns none of them in person."""

    wanted: EventFilter
    visibility: Visibility

    @classmethod
    def of(cls, connection: Connection) -> "_Group":
        return cls(connection.wanted, connection.actor.visibility.group)


class ConnectionManager:
    def __init__(self) -> None:
        self._by_group: dict[_Group, set[Connection]] = {}
        self._by_user: dict[UUID, dict[UUID, Connection]] = {}
        self._gone = {kind: Tally() for kind in ReaderKind}
        self._ended: deque[UUID] = deque(maxlen=REMEMBERED_ENDS)
        # What those see whose rights have changed lately.
        self._changed: FIFOCache[UUID, Visibility] = FIFOCache(REMEMBERED_ENDS)
        self._position = 0
        self._is_following = asyncio.Event()

    def __iter__(self) -> Iterator[Connection]:
        for connections in list(self._by_user.values()):
            yield from list(connections.values())

    @property
    def position(self) -> int:
        """The `seq` of the last event that was given to the readers here."""
        return self._position

    def follow_from(self, position: int) -> None:
        """Events come from here on; until then nobody can be promised to miss none."""
        self._position = position
        self._is_following.set()

    @property
    def is_following(self) -> bool:
        return self._is_following.is_set()

    async def until_following(self) -> None:
        await self._is_following.wait()

    def users(self) -> frozenset[UUID]:
        """Return the users who have a socket here."""
        return frozenset(connection.actor.id for connection in self if connection.kind is ReaderKind.SOCKET)

    def actors(self) -> Mapping[UUID, ActorType]:
        """Return the users who have a socket here, each with their type."""
        return {each.actor.id: each.actor.type for each in self if each.kind is ReaderKind.SOCKET}

    def add(self, connection: Connection) -> None:
        """Add a reader of events. If its account has ended while it signed in, it's closed at once."""
        self._by_user.setdefault(connection.actor.id, {})[connection.id] = connection
        self._by_group.setdefault(_Group.of(connection), set()).add(connection)
        visibility = connection.actor.visibility
        # Its end may have been told after its token was looked up.
        if connection.sign_in_id in self._ended or connection.actor.id in self._ended:
            connection.end(CloseCode.UNAUTHORIZED)
        elif self._changed.get(connection.actor.id, visibility) != visibility:
            connection.end(CloseCode.TRY_AGAIN_LATER)

    def remove(self, connection: Connection) -> None:
        """Forget the reader; harmless if it's not known."""
        of_user = self._by_user.get(connection.actor.id, {})
        if of_user.pop(connection.id, None) is None:
            return
        self._gone[connection.kind].count(connection)
        if not of_user:
            del self._by_user[connection.actor.id]
        group = _Group.of(connection)
        self._by_group[group].remove(connection)
        if not self._by_group[group]:
            del self._by_group[group]

    async def deliver_batch(self, events: Iterable[PublishedEvent]) -> None:
        """Deliver events in order, and let the readers empty their queues now and then.

        A batch can be larger than a queue, and nobody is slow who had no turn to read.
        """
        for parcel in parcels_of(events):
            self._hand_out(parcel)
            await asyncio.sleep(0)

    def deliver(self, *events: PublishedEvent) -> None:
        """Hand over the events to every reader that may have them. Never waits for any of them."""
        for parcel in parcels_of(events):
            self._hand_out(parcel)

    def _hand_out(self, parcel: Parcel) -> None:
        self._end_who_has_to(parcel.events[0])
        concerned = {each for user_id in parcel.concerned for each in self._by_user.get(user_id, {}).values()}
        for connection in concerned:
            connection.take(parcel.share_of(connection.actor.visibility, connection.wanted))
        for group, connections in self._by_group.items():
            share = parcel.share_of(group.visibility, group.wanted)
            if share.messages:
                for connection in connections - concerned:
                    connection.take(share)
        self._position = parcel.last_seq or self._position

    def _end_who_has_to(self, event: PublishedEvent) -> None:
        if event.type == EventType.ACCOUNT_DEACTIVATED:
            self._end_all_of(event.actor_id)
        elif event.type == EventType.ACCOUNT_CHANGED:
            self._renew_rights(AccountChanged.model_validate(event.envelope().data))
        elif event.type == EventType.SIGN_IN_ENDED:
            self._end_sign_ins(SignInEnded.model_validate(event.envelope().data))
        elif event.type == EventType.LOG_RENEWED:
            self._start_all_over()

    def tallies(self) -> dict[ReaderKind, Tally]:
        """The readers here by their kinds; those that are gone count on in the sums."""
        tallies = {kind: replace(gone) for kind, gone in self._gone.items()}
        for connection in self:
            tallies[connection.kind].present += 1
            tallies[connection.kind].count(connection)
        return tallies

    def count_page(self, events: int) -> None:
        """A page was given, with so many events."""
        self._gone[ReaderKind.PAGE].events += events

    def end_streams(self) -> None:
        """End the readers that are requests; the server closes the sockets itself."""
        for connection in self:
            if connection.kind is not ReaderKind.SOCKET:
                connection.end(CloseCode.TRY_AGAIN_LATER)

    def _start_all_over(self) -> None:
        # They may have been told what this database has lost.
        for connection in self:
            connection.start_over(CloseCode.RESYNC)

    def _end_sign_ins(self, ended: SignInEnded) -> None:
        self._ended.extend(ended.sign_in_ids)
        for connection in list(self._by_user.get(ended.user_id, {}).values()):
            if connection.sign_in_id in ended.sign_in_ids:
                connection.end(CloseCode.UNAUTHORIZED)

    def _renew_rights(self, changed: AccountChanged) -> None:
        """End what has other rights than the account has now; its client comes again, and is looked up anew."""
        user_id = changed.user_id
        self._ended = deque((each for each in self._ended if each != user_id), maxlen=REMEMBERED_ENDS)
        self._changed[user_id] = present = Visibility(user_id, changed.is_admin)
        for connection in list(self._by_user.get(user_id, {}).values()):
            if connection.actor.visibility != present:
                connection.end(CloseCode.TRY_AGAIN_LATER)

    def _end_all_of(self, user_id: UUID) -> None:
        self._ended.append(user_id)
        for connection in list(self._by_user.get(user_id, {}).values()):
            connection.end(CloseCode.UNAUTHORIZED)
