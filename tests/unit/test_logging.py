"""One log for HIVE and its libraries: its form, its request id, and that no secret is ever in it."""

import json
import logging
from collections.abc import Iterator

import pytest
import structlog
from python_multipart.exceptions import MultipartParseError
from python_multipart.multipart import MultipartParser

from app.config import Environment, Settings
from tests.utils.logs import SECRET, Configure, Read, own_log

SENTENCE = "correct horse battery hunter2"


@pytest.fixture
def configure(settings: Settings) -> Iterator[Configure]:
    """Sets up the real log, and gives what reads the lines that went to it."""
    with own_log(settings) as configure:
        yield configure


@pytest.fixture(params=[Environment.DEVELOPMENT, Environment.PRODUCTION])
def log(request: pytest.FixtureRequest, configure: Configure) -> Read:
    return configure(request.param)


def hive_log() -> structlog.stdlib.BoundLogger:
    logger: structlog.stdlib.BoundLogger = structlog.stdlib.get_logger("hive.test")
    return logger


def fail(message: str) -> None:
    raise LookupError(message)


def test_production_writes_one_json_object_a_line(configure: Configure) -> None:
    read = configure(Environment.PRODUCTION)

    hive_log().info("something\nhappened", count=3)
    logging.getLogger("a.library").warning("it says %s", "so")

    ours, theirs = map(json.loads, read().splitlines())
    assert ours.pop("timestamp").endswith("Z")
    assert ours == {
        "process": "api",
        "event": "something\nhappened",
        "count": 3,
        "level": "info",
        "logger": "hive.test",
    }
    assert (theirs["event"], theirs["level"], theirs["logger"]) == ("it says so", "warning", "a.library")


def test_production_writes_an_exception_on_its_one_line(configure: Configure) -> None:
    read = configure(Environment.PRODUCTION)

    try:
        fail("lost")
    except LookupError:
        hive_log().exception("it broke")

    [line] = read().splitlines()
    entry = json.loads(line)
    assert entry["event"] == "it broke"
    assert "Traceback" in entry["exception"]
    assert "LookupError: lost" in entry["exception"]


def test_development_writes_text(configure: Configure) -> None:
    read = configure(Environment.DEVELOPMENT)

    hive_log().info("something happened", count=3)

    [line] = read().splitlines()
    assert "something happened" in line
    assert "count=3" in line
    assert "\x1b" not in line
    with pytest.raises(ValueError, match=r"Expecting value|Extra data"):
        json.loads(line)


def test_what_is_said_during_a_request_has_its_id(log: Read) -> None:
    structlog.contextvars.bind_contextvars(request_id="trace-0001")

    hive_log().info("ours")
    logging.getLogger("a.library").info("theirs")

    assert [("trace-0001" in line) for line in log().splitlines()] == [True, True]


@pytest.mark.parametrize(
    ("level", "shown"),
    [("DEBUG", "debug info error"), ("INFO", "info error"), ("WARNING", "error"), ("ERROR", "error")],
)
def test_the_level_decides_what_is_said(configure: Configure, level: str, shown: str) -> None:
    read = configure(Environment.PRODUCTION, level)

    for name in ("debug", "info", "error"):
        getattr(hive_log(), name)("said")

    assert " ".join(json.loads(line)["level"] for line in read().splitlines()) == shown


@pytest.mark.parametrize("level", ["DEBUG", "INFO"])
@pytest.mark.parametrize("junk", [b"nonsense", b"--y", b"--x\r\nno colon\r\n\r\n", b"--x\r\nbad name: a\r\n\r\n"])
def test_nothing_is_said_of_each_form_that_cannot_be_read(configure: Configure, level: str, junk: bytes) -> None:
    read = configure(Environment.PRODUCTION, level)

    with pytest.raises(MultipartParseError):
        MultipartParser(b"x").write(junk)

    assert read() == ""


@pytest.mark.parametrize(
    "text",
    [
        '127.0.0.1:5000 - "WebSocket /ws?token=%s" [accepted]',
        '127.0.0.1:5000 - "WebSocket /ws?since=1&token=%s&x=1" 403',
        "GET /api/v1/tasks?access_token=%s HTTP/1.1",
        "Authorization: Bearer %s",
        "{'authorization': 'Bearer %s'}",
        '{"password": "%s"}',
        "{'current_password': '%s', 'role': ''}",
        "password=%s",
        "PASSWORD = %s",
        "JWT_SECRET_KEY=%s",
        "secret: %s",
        "the program said hive_%s",
        "can't connect to postgresql://hive:%s@db.example:5432/hive",
        "can't connect to rediss://:%s@cache.example:6380/0",
    ],
)
def test_no_secret_in_a_text_is_written(log: Read, text: str) -> None:
    hive_log().info(text % SECRET)
    hive_log().info("an event", detail=text % SECRET)
    logging.getLogger("uvicorn.error").error(text, SECRET)

    assert len(log().splitlines()) == 3
    assert SECRET not in log()


@pytest.mark.parametrize(
    "name",
    [
        "token",
        "access_token",
        "refresh_token",
        "password",
        "current_password",
        "new_password",
        "secret",
        "jwt_secret_key",
        "Authorization",
    ],
)
def test_no_value_of_a_secret_name_is_written(log: Read, name: str) -> None:
    hive_log().info("an event", **{name: SECRET})
    hive_log().info("an event", body={"more": [{name: SECRET}]})

    assert len(log().splitlines()) == 2
    assert SECRET not in log()


def test_no_secret_in_an_exception_is_written(log: Read) -> None:
    try:
        fail(f"no such token={SECRET}")
    except LookupError:
        hive_log().exception("it broke")
        logging.getLogger("a.library").exception("it broke there")

    assert log().count("LookupError: no such token=") == 2
    assert SECRET not in log()


@pytest.mark.parametrize("text", ['{"password": "%s"}', "{'password': '%s', 'role': ''}", 'password="%s"'])
def test_no_part_of_a_secret_with_spaces_is_written(log: Read, text: str) -> None:
    hive_log().info(text % SENTENCE)

    for word in SENTENCE.split():
        assert word not in log()


def test_no_local_variable_is_written(log: Read) -> None:
    def sign_in(given: str) -> None:
        assert given
        raise LookupError

    try:
        sign_in(SECRET)
    except LookupError:
        hive_log().exception("it broke")

    assert SECRET not in log()


def test_what_is_no_secret_is_written_whole(log: Read) -> None:
    hive_log().info("request", method="GET", path="/api/v1/tasks", status=200, ms=1.5, nothing=None, many=[1, 2])

    for part in ("GET", "/api/v1/tasks", "200", "1.5", "[1, 2]"):
        assert part in log()


def test_the_address_of_a_request_is_not_logged_a_second_time_with_its_query(log: Read) -> None:
    logging.getLogger("uvicorn.access").info('%s - "GET %s HTTP/1.1" 200', "127.0.0.1", f"/?q={SECRET}")

    assert log() == ""
