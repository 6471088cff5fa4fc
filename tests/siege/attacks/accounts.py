"""Accounts: guessed passwords and tokens, registrations, and mail that others get."""

import json

from tests.siege.attacks.registry import attack
from tests.siege.stranger import Course, Request, as_user, ask

FORM = {"Content-Type": "application/x-www-form-urlencoded"}


def _post(path: str, body: object) -> Request:
    return Request("POST", f"/api/v1{path}", json.dumps(body).encode(), {"Content-Type": "application/json"})


@attack("401", "429", "503")
def sign_ins_of_many_accounts(course: Course) -> None:
    ask(
        course,
        lambda number: _post("/auth/login", {"email": f"user{number}@example.org", "password": "guessed"}),
        connections=20,
    )


@attack("401", "429", "503")
def sign_ins_of_one_account(course: Course) -> None:
    body = {"email": course.target.email, "password": "guessed"}
    ask(course, lambda number: _post("/auth/login", body | {"password": f"guess {number}"}), connections=20)


@attack("400", "401", "429", "503")
def grants_of_passwords(course: Course) -> None:
    content = b"grant_type=password&username=ada%40example.org&password=guessed"
    ask(course, lambda _: Request("POST", "/api/v1/auth/token", content, FORM), connections=20)


@attack("401", "422", "429", "503")
def passwords_as_long_as_may_be(course: Course) -> None:
    body = {"email": course.target.email, "password": "x" * 900_000}
    ask(course, lambda _: _post("/auth/login", body))


@attack("401", "429", is_in_short_form=True)
def junk_refresh_tokens(course: Course) -> None:
    ask(course, lambda number: _post("/auth/refresh", {"refresh_token": f"{number}" + "r" * 60}), connections=12)


@attack("400", "401", "429")
def grants_of_junk_refresh_tokens(course: Course) -> None:
    content = b"grant_type=refresh_token&refresh_token=" + b"r" * 64
    ask(course, lambda _: Request("POST", "/api/v1/auth/token", content, FORM))


@attack("201", "409", "429", "503")
def registrations(course: Course) -> None:
    def request(number: int) -> Request:
        body = {"email": f"new{number}@example.org", "password": "correct horse battery", "display_name": "New"}
        return _post("/auth/register", body)

    ask(course, request, connections=20)


@attack("409", "429", "503")
def registrations_of_an_account_that_is_there(course: Course) -> None:
    body = {"email": course.target.email, "password": "correct horse battery", "display_name": "M"}
    ask(course, lambda _: _post("/auth/register", body))


@attack("404", "429")
def junk_codes(course: Course) -> None:
    ask(course, lambda number: Request("GET", f"/api/v1/auth/confirm?code={number}" + "c" * 60))


@attack("200", "202", "204", "409", "429")
def confirmations(course: Course) -> None:
    ask(course, lambda _: as_user(course, "POST", "/users/me/confirmation"))


@attack("201", "409", "429")
def tokens_without_end(course: Course) -> None:
    body = {"name": "report", "scopes": ["tasks:read"]}
    ask(course, lambda _: as_user(course, "POST", "/users/me/tokens", body))


@attack("201", "409", "429")
def agents_without_end(course: Course) -> None:
    ask(
        course,
        lambda number: as_user(
            course, "POST", "/agents", {"display_name": f"agent {number}", "scopes": ["tasks:read"]}
        ),
    )


@attack("200", "429")
def new_names_of_a_user(course: Course) -> None:
    ask(course, lambda number: as_user(course, "PATCH", "/users/me", {"display_name": f"Mallory {number}"}))


@attack("403", "429")
def what_only_admins_may(course: Course) -> None:
    paths = ["/admin/jobs", "/admin/audit", "/admin/users?q=a"]
    ask(course, lambda number: as_user(course, "GET", paths[number % 3]))
