"""Passwords and tokens: what is taken, and that everything else is refused."""

import asyncio
import base64
import hmac
import json
import threading
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import jwt
import pytest
from pwdlib import PasswordHash

from app.core.security import (
    ALGORITHM,
    AUDIENCE,
    LEEWAY,
    REQUIRED_CLAIMS,
    InvalidToken,
    hash_password,
    issue_token,
    password_matches,
    read_token,
)
from tests.utils.test_utils import PATIENCE, wait_until_async

KEY = "a key for tests that is long enough for this"
MINUTE = timedelta(minutes=1)


def claims(**changes: Any) -> dict[str, Any]:
    now = datetime.now(UTC)
    usual = {
        "sub": str(uuid4()),
        "sid": str(uuid4()),
        "iat": now,
        "exp": now + MINUTE,
        "jti": str(uuid4()),
        "aud": AUDIENCE,
    }
    return usual | changes


def signed(content: dict[str, Any], *, key: str = KEY, algorithm: str = ALGORITHM) -> str:
    return jwt.encode(content, key, algorithm=algorithm)


def signed_by_hand(header: dict[str, Any], content: dict[str, Any]) -> str:
    """The library would not sign everything that somebody with the key could."""

    def encoded(data: bytes) -> bytes:
        return base64.urlsafe_b64encode(data).rstrip(b"=")

    def written(part: dict[str, Any]) -> bytes:
        return encoded(json.dumps(part, default=datetime.timestamp).encode())

    signing_input = written(header) + b"." + written(content)
    signature = hmac.digest(KEY.encode(), signing_input, "sha256")
    return (signing_input + b"." + encoded(signature)).decode()


def test_what_is_signed_by_hand_is_signed_well() -> None:
    """Or the refusals below would prove nothing."""
    assert read_token(signed_by_hand({"alg": ALGORITHM, "typ": "JWT"}, claims()), key=KEY)


def test_a_token_says_whose_it_is_and_until_when() -> None:
    user_id = uuid4()
    before = datetime.now(UTC).replace(microsecond=0)

    token = read_token(issue_token(user_id, uuid4(), key=KEY, lifetime=MINUTE), key=KEY)

    assert token.user_id == user_id
    assert before + MINUTE <= token.expires_at <= datetime.now(UTC) + MINUTE


def test_a_token_has_all_claims_and_nothing_personal() -> None:
    content = jwt.decode(issue_token(uuid4(), uuid4(), key=KEY, lifetime=MINUTE), options={"verify_signature": False})

    assert set(content) == set(REQUIRED_CLAIMS) == {"exp", "iat", "sub", "sid", "jti", "aud"}


def test_no_two_tokens_are_the_same() -> None:
    user_id = uuid4()

    assert len({issue_token(user_id, uuid4(), key=KEY, lifetime=MINUTE) for _ in range(10)}) == 10


def test_what_is_made_by_hand_is_read_as_well() -> None:
    content = claims()

    assert str(read_token(signed(content), key=KEY).user_id) == content["sub"]


@pytest.mark.parametrize("claim", REQUIRED_CLAIMS)
def test_a_token_without_a_claim_is_refused(claim: str) -> None:
    content = claims()
    del content[claim]

    with pytest.raises(InvalidToken):
        read_token(signed(content), key=KEY)


PAST, FUTURE = datetime(2020, 1, 1, tzinfo=UTC), datetime(2100, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    "change",
    [
        {"exp": PAST},
        {"exp": "tomorrow"},
        {"exp": None},
        {"exp": 10**30},
        {"exp": -1},
        {"iat": FUTURE},
        {"iat": "then"},
        {"nbf": FUTURE},
        {"aud": "another:audience"},
        {"aud": ["another:audience"]},
        {"aud": ""},
        {"aud": None},
        {"sub": "me"},
        {"sub": ""},
        {"sid": "mine"},
        {"sid": None},
        {"sid": 5},
        {"sub": None},
        {"sub": 5},
        {"sub": ["a"]},
        {"sub": {"id": 1}},
        {"jti": None},
    ],
    ids=str,
)
def test_a_token_with_a_wrong_claim_is_refused(change: dict[str, Any]) -> None:
    token = signed_by_hand({"alg": ALGORITHM, "typ": "JWT"}, claims() | change)

    with pytest.raises(InvalidToken):
        read_token(token, key=KEY)


@pytest.mark.parametrize("algorithm", ["HS384", "HS512"])
def test_another_algorithm_with_the_right_key_is_refused(algorithm: str) -> None:
    key = KEY * 2

    with pytest.raises(InvalidToken):
        read_token(signed(claims(), key=key, algorithm=algorithm), key=key)


def test_a_token_that_is_not_signed_is_refused() -> None:
    with pytest.raises(InvalidToken):
        read_token(jwt.encode(claims(), None, algorithm="none"), key=KEY)


@pytest.mark.parametrize("algorithm", ["RS256", "ES256", "EdDSA", "none", "None", "hs256", "", "HS256 "])
def test_a_token_that_names_another_algorithm_is_refused_although_the_signature_fits(algorithm: str) -> None:
    with pytest.raises(InvalidToken):
        read_token(signed_by_hand({"alg": algorithm, "typ": "JWT"}, claims()), key=KEY)


@pytest.mark.parametrize("key", [KEY + "x", KEY[:-1] + "X", KEY.upper()])
def test_a_token_of_another_key_is_refused(key: str) -> None:
    with pytest.raises(InvalidToken):
        read_token(signed(claims(), key=key), key=KEY)


@pytest.mark.parametrize(
    "text",
    [
        "",
        ".",
        "..",
        "...",
        "a.b.c",
        "e30.e30.e30",
        "null",
        "é",
        "\x00",
        "🐝.🐝.🐝",
        "a" * 10_000,
        "\ud800",
        "e30.bnVsbA.x",
    ],
    ids=ascii,
)
def test_what_is_no_token_is_refused(text: str) -> None:
    with pytest.raises(InvalidToken):
        read_token(text, key=KEY)


def test_a_token_that_runs_out_is_refused_from_then_on() -> None:
    token = issue_token(uuid4(), uuid4(), key=KEY, lifetime=timedelta(seconds=-61))

    with pytest.raises(InvalidToken):
        read_token(token, key=KEY)


def by_a_clock_that_is_off(seconds: int) -> str:
    now = datetime.now(UTC) + timedelta(seconds=seconds)
    return signed(claims() | {"iat": now, "nbf": now, "exp": now + MINUTE})


@pytest.mark.parametrize("seconds", [-110, -55, -1, 1, 55])
def test_a_token_of_a_machine_whose_clock_differs_is_read(seconds: int) -> None:
    assert read_token(by_a_clock_that_is_off(seconds), key=KEY).expires_at > datetime.now(UTC)


@pytest.mark.parametrize("seconds", [-125, 70])
def test_a_token_of_a_clock_that_is_far_off_is_refused(seconds: int) -> None:
    with pytest.raises(InvalidToken):
        read_token(by_a_clock_that_is_off(seconds), key=KEY)


def test_a_token_past_its_end_holds_for_the_leeway_alone() -> None:
    ended = datetime.now(UTC).replace(microsecond=0) - timedelta(seconds=5)

    assert read_token(signed(claims() | {"exp": ended}), key=KEY).expires_at == ended + LEEWAY


async def test_a_hash_is_argon2id_with_the_parameters_that_are_meant() -> None:
    assert (await hash_password("correct horse")).startswith("$argon2id$v=19$m=19456,t=2,p=1$")


async def test_a_hash_has_salt_of_its_own() -> None:
    assert await hash_password("correct horse") != await hash_password("correct horse")


@pytest.mark.parametrize("password", ["correct horse", "ünïcödé 🐝", " spaces ", "a" * 128])
async def test_the_password_fits_its_hash_and_no_other_does(password: str) -> None:
    password_hash = await hash_password(password)

    assert await password_matches(password, password_hash)
    assert not await password_matches(password + "x", password_hash)
    assert not await password_matches(password[1:], password_hash)


@pytest.mark.parametrize("password", ["", "anything", "no account has this password", "\x00", "x" * 10_000])
async def test_nobodys_password_matches_nothing(password: str) -> None:
    assert await password_matches(password, None) is False


async def test_nobodys_hash_costs_what_others_cost(verifications: list[str]) -> None:
    await password_matches("anything", None)
    await password_matches("anything", await hash_password("correct horse"))

    [nobodys, somebodys] = [text.split("$") for text in verifications]
    assert nobodys[:4] == somebodys[:4]
    assert [len(part) for part in nobodys] == [len(part) for part in somebodys]


async def test_hashing_leaves_the_loop_free(monkeypatch: pytest.MonkeyPatch) -> None:
    is_hashing, may_end = threading.Event(), threading.Event()
    hash_it, was_free = PasswordHash.hash, []

    def hold(self: PasswordHash, password: str) -> str:
        is_hashing.set()
        # Inline, nobody would come to setting it.
        was_free.append(may_end.wait(PATIENCE))
        return hash_it(self, password)

    async def has_begun() -> bool:
        return is_hashing.is_set()

    monkeypatch.setattr(PasswordHash, "hash", hold)
    hashing = asyncio.create_task(hash_password("correct horse"))
    await wait_until_async(has_begun, what="the hashing to begin")
    may_end.set()

    assert await password_matches("correct horse", await hashing)
    assert was_free == [True]
