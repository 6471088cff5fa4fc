"""When a mail server is left alone, and for how long."""

import asyncio

import pytest

from app.mail.breaker import FIRST_PAUSE_SECONDS, MOST_DELAYED, SLOW_SECONDS, CircuitBreaker, MailPaused
from app.mail.mailer import MailDelayed, MailRefused, RecipientDelayed
from app.mail.message import Mail

MAIL = Mail(to="ada@example.org", subject="", text="", html="", message_id="<a@example.org>")


class Server:
    """A mail server and the time: each mail takes `seconds`, and ends as `fault` says."""

    def __init__(self) -> None:
        self.now, self.seconds, self.tries = 0.0, 0.0, 0
        self.fault: BaseException | None = None
        self.breaker = CircuitBreaker(self, lambda: self.now)

    async def send(self, _mail: Mail) -> None:
        self.tries += 1
        self.now += self.seconds
        if self.fault:
            raise self.fault

    async def try_one(self) -> type[Exception] | None:
        try:
            await self.breaker.send(MAIL)
        except (MailDelayed, MailRefused, MailPaused) as error:
            return type(error)
        return None


@pytest.fixture
def server() -> Server:
    return Server()


async def test_after_three_that_failed_the_others_wait(server: Server) -> None:
    server.fault = MailDelayed("away")

    told = [await server.try_one() for _ in range(MOST_DELAYED + 2)]

    assert told == [MailDelayed] * MOST_DELAYED + [MailPaused] * 2
    assert server.tries == MOST_DELAYED


async def test_slow_mails_count_as_delayed(server: Server) -> None:
    server.seconds = SLOW_SECONDS + 1

    told = [await server.try_one() for _ in range(MOST_DELAYED + 1)]

    assert told == [None] * MOST_DELAYED + [MailPaused]


async def test_pauses_grow_until_a_mail_gets_through(server: Server) -> None:
    server.fault = MailDelayed("away")
    for _ in range(MOST_DELAYED):
        await server.try_one()
    server.now += FIRST_PAUSE_SECONDS
    assert await server.try_one() is MailDelayed
    server.now += FIRST_PAUSE_SECONDS
    assert await server.try_one() is MailPaused
    server.now += FIRST_PAUSE_SECONDS
    server.fault = None
    assert [await server.try_one() for _ in range(3)] == [None] * 3

    server.fault = MailDelayed("away")
    assert [await server.try_one() for _ in range(3)] == [MailDelayed] * 3
    server.now += FIRST_PAUSE_SECONDS
    assert await server.try_one() is MailDelayed


ANSWERS = pytest.mark.parametrize("answer", [MailRefused("no such mailbox"), RecipientDelayed("greylisted")])


@ANSWERS
async def test_an_answer_about_a_mail_is_nothing_against_the_server(server: Server, answer: Exception) -> None:
    server.fault = answer

    assert {await server.try_one() for _ in range(MOST_DELAYED * 2)} == {type(answer)}


@ANSWERS
async def test_a_server_that_is_slow_to_say_no_is_slow(server: Server, answer: Exception) -> None:
    server.fault, server.seconds = answer, SLOW_SECONDS + 1

    told = [await server.try_one() for _ in range(MOST_DELAYED + 1)]

    assert told == [type(answer)] * MOST_DELAYED + [MailPaused]


@ANSWERS
async def test_after_a_pause_an_answer_about_a_mail_ends_it(server: Server, answer: Exception) -> None:
    server.fault = MailDelayed("away")
    for _ in range(MOST_DELAYED):
        await server.try_one()
    server.now += FIRST_PAUSE_SECONDS
    server.fault = answer

    assert {await server.try_one() for _ in range(MOST_DELAYED)} == {type(answer)}


async def test_a_mail_that_is_cut_off_counts_against_the_server(server: Server) -> None:
    server.fault = asyncio.CancelledError()
    for _ in range(MOST_DELAYED):
        with pytest.raises(asyncio.CancelledError):
            await server.breaker.send(MAIL)

    assert await server.try_one() is MailPaused
