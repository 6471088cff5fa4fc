"""The readers of one process: who is given which event.

Only the network is a fake here; what runs over it is the application's own.
"""

from collections.abc import Sequence
from datetime import UTC, datetime
from uuid import UUID, uuid4

import pytest

from app.core.permissions import Actor
from app.events.filters import EventFilter
from app.events.published import PublishedEvent
from app.models import EventType
from app.schemas.event import Envelope, EventActor
from app.websockets.connection import Connection
from app.websockets.connection_manager import ConnectionManager
from tests.utils.readers import ADA, GRACE, ROOT, connect, event_of, queued


async def test_an_event_for_everybody_goes_to_every_socket() -> None:
    manager = ConnectionManager()
    connections = [await connect(manager, actor) for actor in (ADA, ADA, GRACE, ROOT)]

    manager.deliver(event_of())

    assert [queued(connection) for connection in connections] == [['{"type":"task.updated"}']] * 4


@pytest.mark.parametrize(
    ("audience", "readers"),
    [(None, [ADA, GRACE, ROOT]), ([], [ROOT]), ([ADA.id], [ADA, ROOT]), ([ADA.id, GRACE.id], [ADA, GRACE, ROOT])],
    ids=["everybody", "nobody", "one", "two"],
)
async def test_an_event_goes_to_its_audience_and_to_admins(
    audience: Sequence[UUID] | None, readers: list[Actor]
) -> None:
    manager = ConnectionManager()
    connections = [await connect(manager, actor) for actor in (ADA, GRACE, ROOT)]

    manager.deliver(event_of(audience=audience))

    assert [connection.actor for connection in connections if queued(connection)] == readers


async def test_all_sockets_are_given_the_one_text_that_was_encoded() -> None:
    manager = ConnectionManager()
    connections = [await connect(manager, actor) for actor in (ADA, GRACE)]
    event = event_of()

    manager.deliver(event)

    for connection in connections:
        [message] = connection._queue
        assert message.text is event.text


async def test_an_internal_event_is_shown_to_nobody() -> None:
    manager = ConnectionManager()
    connections = [await connect(manager, actor) for actor in (GRACE, ROOT)]

    for audience in ([], None, [ROOT.id]):
        manager.deliver(event_of(EventType.ACCOUNT_DEACTIVATED, audience=audience))

    assert [queued(connection) for connection in connections] == [[], []]


@pytest.mark.parametrize("presence", [EventType.USER_ONLINE, EventType.USER_OFFLINE])
async def test_that_oneself_is_online_is_told_to_the_others_only(presence: EventType) -> None:
    manager = ConnectionManager()
    own, others = [await connect(manager, ADA), await connect(manager, ADA)], await connect(manager, GRACE)

    manager.deliver(event_of(presence, actor=ADA))

    assert [queued(connection) for connection in own] == [[], []]
    assert len(queued(others)) == 1


async def test_ones_own_changes_are_told_to_oneself_too() -> None:
    manager = ConnectionManager()
    own = await connect(manager, ADA)

    manager.deliver(event_of(EventType.CHAT_MESSAGE, actor=ADA))

    assert len(queued(own)) == 1


async def test_deactivation_ends_the_sockets_of_that_account_and_no_other() -> None:
    manager = ConnectionManager()
    ended, others = [await connect(manager, ADA) for _ in range(2)], await connect(manager, GRACE)

    manager.deliver(event_of(EventType.ACCOUNT_DEACTIVATED, actor=ADA, audience=[]))

    assert [(connection.is_ended, connection.close_code) for connection in ended] == [(True, 4401)] * 2
    assert not others.is_ended


async def test_what_ends_a_reader_in_the_midst_of_others_ends_it_there() -> None:
    manager = ConnectionManager()
    ended, other = await connect(manager, ADA), await connect(manager, GRACE)
    events = [event_of(text=str(number)) for number in range(4)]
    end = event_of(EventType.ACCOUNT_DEACTIVATED, actor=ADA, audience=[])

    manager.deliver(*events[:2], end, *events[2:])

    assert (queued(ended), ended.close_code) == (["0", "1"], 4401)
    assert (queued(other), other.is_ended) == (["0", "1", "2", "3"], False)


async def test_of_events_handed_over_together_each_gets_what_is_for_them_in_order() -> None:
    manager = ConnectionManager()
    connections = [await connect(manager, actor) for actor in (ADA, GRACE, ROOT)]
    audiences = [None, [ADA.id], [GRACE.id], [], [ADA.id, GRACE.id], None]

    manager.deliver(*(event_of(audience=audience, text=str(number)) for number, audience in enumerate(audiences)))

    assert [queued(each) for each in connections] == [list("0145"), list("0245"), list("012345")]


async def test_readers_are_given_what_each_of_them_wants() -> None:
    manager = ConnectionManager()
    chat = Connection(ADA, wanted=EventFilter(frozenset({EventType.CHAT_MESSAGE})))
    tasks = Connection(ADA, wanted=EventFilter(frozenset({EventType.TASK_UPDATED})))
    for connection in (chat, tasks):
        manager.add(connection)

    manager.deliver(event_of(EventType.CHAT_MESSAGE, text="chat"), event_of(EventType.TASK_UPDATED, text="task"))

    assert (queued(chat), queued(tasks)) == (["chat"], ["task"])


def ended(*ids: UUID) -> PublishedEvent:
    """The event of the end of these sessions or tokens of Ada's."""
    data = {"user_id": str(ADA.id), "sign_in_ids": list(map(str, ids))}
    envelope = Envelope(
        id=uuid4(),
        seq=1,
        type=EventType.SIGN_IN_ENDED,
        timestamp=datetime.now(UTC),
        actor=EventActor(id=ADA.id, type="user"),
        task=None,
        data=data,
    )
    return event_of(EventType.SIGN_IN_ENDED, actor=ADA, audience=[], text=envelope.model_dump_json())


async def test_the_end_of_a_session_ends_what_it_has_opened_and_nothing_else() -> None:
    manager = ConnectionManager()
    here, elsewhere, of_grace = uuid4(), uuid4(), uuid4()
    for actor, sign_in_id in ((ADA, here), (ADA, here), (ADA, elsewhere), (GRACE, of_grace)):
        manager.add(Connection(actor, sign_in_id=sign_in_id))

    manager.deliver(ended(here, of_grace))

    assert [each.sign_in_id for each in manager if each.is_ended] == [here, here]
    assert {each.close_code for each in manager if each.is_ended} == {4401}
    assert [queued(each) for each in manager] == [[]] * 4


async def test_who_comes_just_after_the_end_was_told_is_shown_out_too() -> None:
    """Their token was looked up before the end, and the event was delivered before they were here."""
    manager = ConnectionManager()
    sign_in_id = uuid4()
    manager.deliver(ended(sign_in_id))
    manager.deliver(event_of(EventType.ACCOUNT_DEACTIVATED, actor=GRACE, audience=[]))
    late = [Connection(ADA, sign_in_id=sign_in_id), Connection(GRACE, sign_in_id=uuid4())]
    others = [Connection(ADA, sign_in_id=uuid4()), Connection(ROOT)]

    for connection in (*late, *others):
        manager.add(connection)

    assert [(each.is_ended, each.close_code) for each in late] == [(True, 4401)] * 2
    assert [each.is_ended for each in others] == [False, False]


async def test_the_manager_knows_who_has_a_socket_until_the_last_one_goes() -> None:
    manager = ConnectionManager()
    one, two, other = await connect(manager, ADA), await connect(manager, ADA), await connect(manager, GRACE)
    assert (len(list(manager)), manager.users()) == (3, frozenset({ADA.id, GRACE.id}))

    manager.remove(one)
    manager.remove(one)
    assert (len(list(manager)), manager.users()) == (2, frozenset({ADA.id, GRACE.id}))

    manager.remove(two)
    assert (list(manager), manager.users()) == ([other], frozenset({GRACE.id}))

    manager.remove(other)
    assert (manager._by_user, manager._by_group) == ({}, {})


async def test_what_is_gone_is_given_nothing() -> None:
    manager = ConnectionManager()
    gone = await connect(manager, ADA)
    manager.remove(gone)

    manager.deliver(event_of())

    assert queued(gone) == []
