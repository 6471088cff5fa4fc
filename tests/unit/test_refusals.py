"""What the wire answers by itself: as whole a problem as any other, counted, and seldom in the log."""

import json
import logging
from email import message_from_bytes

import pytest

from app.api.security_headers import SecurityHeaders
from app.core.browser_headers import ALWAYS, ONLY_BY_HTTPS, POLICY, STRICT_POLICY
from app.metrics.wire import wire_metrics
from app.wire import refusals
from app.wire.endings import Ending, Endings
from app.wire.refusals import Refusal
from app.wire.uvicorn_log import STRANGERS_MISTAKES, leave_out_mistakes_of_strangers

ALL = {name: each for name, each in vars(refusals).items() if isinstance(each, Refusal)}
CLIENT = ("192.0.2.1", 4711)


@pytest.mark.parametrize("is_https", [False, True])
@pytest.mark.parametrize("name", ALL)
def test_each_refusal_is_a_problem_with_the_headers_of_every_answer(name: str, *, is_https: bool) -> None:
    refusal = ALL[name]

    head, _, body = refusal.answer(is_https=is_https).partition(b"\r\n\r\n")

    line, _, fields = head.partition(b"\r\n")
    headers = message_from_bytes(fields + b"\r\n\r\n")
    problem = json.loads(body)
    assert line.startswith(b"HTTP/1.1 %d " % refusal.status)
    assert headers["Content-Type"] == "application/problem+json"
    assert int(headers["Content-Length"]) == len(body)
    assert headers["Connection"] == "close"
    assert headers["X-Request-ID"] == problem["request_id"]
    assert (problem["status"], problem["code"], problem["detail"]) == (refusal.status, refusal.code, refusal.detail)
    expected = ALWAYS | {POLICY: STRICT_POLICY} | (ONLY_BY_HTTPS if is_https else {})
    assert {key: headers[key] for key in expected} == expected
    assert bool(headers["Strict-Transport-Security"]) is is_https
    assert (headers["Retry-After"] is not None) is (refusal.status in {429, 503})
    # As the application's own answers have them.
    assert all(headers[key.decode()] for key, _ in SecurityHeaders(None, is_https=is_https)._with_policy)  # type: ignore[arg-type]


def test_endings_are_counted_each_and_said_seldom(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    endings = Endings()

    for _ in range(1000):
        endings.note(Ending.NOT_HTTP, CLIENT)
    endings.note(Ending.NO_PLACE, CLIENT)

    assert sum("a connection is refused" in record.getMessage() for record in caplog.records) == 2
    [family] = wire_metrics(endings)
    told = {sample.labels["reason"]: sample.value for sample in family.samples}
    assert told == dict.fromkeys(Ending, 0) | {Ending.NOT_HTTP: 1000, Ending.NO_PLACE: 1}


def test_uvicorn_says_nothing_of_mistakes_and_everything_else(caplog: pytest.LogCaptureFixture) -> None:
    leave_out_mistakes_of_strangers()
    leave_out_mistakes_of_strangers()
    logger = logging.getLogger("uvicorn.error")

    for message in (*STRANGERS_MISTAKES, "Something is broken."):
        logger.error(message)

    assert [record.getMessage() for record in caplog.records] == ["Something is broken."]
    assert len([each for each in logger.filters if type(each).__name__ == "WithoutStrangersMistakes"]) == 1
