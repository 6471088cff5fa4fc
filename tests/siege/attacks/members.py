"""One user who has signed in, and does what users may, without end."""

from tests.siege.attacks.registry import attack
from tests.siege.stranger import Course, as_user, ask

TASK = {"title": "Water the orchids", "status": "available", "description": "water " * 500}


@attack("200", "207", "429")
def batches_of_creations(course: Course) -> None:
    body = {"mode": "each", "items": [{"op": "create", "body": TASK}] * 100}
    ask(course, lambda _: as_user(course, "POST", "/tasks/batch", body))


@attack("200", "207", "409", "422", "429")
def batches_of_refusals(course: Course) -> None:
    nothing = "00000000-0000-7000-8000-000000000000"
    body = {"mode": "each", "items": [{"op": "delete", "id": nothing}] * 100}
    ask(course, lambda _: as_user(course, "POST", "/tasks/batch", body))


@attack("201", "429")
def creations(course: Course) -> None:
    ask(course, lambda _: as_user(course, "POST", "/tasks", TASK), connections=12)


@attack("201", "413", "422", "429")
def descriptions_as_long_as_may_be(course: Course) -> None:
    ask(course, lambda _: as_user(course, "POST", "/tasks", TASK | {"description": "@Ada " * 4_000}))


@attack("201", "409", "422", "429", is_in_short_form=True)
def idempotency_keys(course: Course) -> None:
    keys = "k" * 40
    ask(course, lambda number: as_user(course, "POST", "/tasks", TASK, **{"Idempotency-Key": f"{keys}{number}"}))


@attack("201", "409", "422", "429")
def one_idempotency_key(course: Course) -> None:
    key = {"Idempotency-Key": "one-key-for-all"}
    ask(course, lambda _: as_user(course, "POST", "/tasks", TASK, **key), connections=20)


@attack("200", "204", "404", "409", "429")
def claims(course: Course) -> None:
    ask(course, lambda _: as_user(course, "POST", "/tasks/claim-next", {}), connections=12)


@attack("200", "204", "404", "409", "429", "503")
def claims_by_words(course: Course) -> None:
    ask(course, lambda _: as_user(course, "POST", "/tasks/claim-next", {"q": "water orchids"}), connections=12)


@attack("200", "204", "404", "409", "429", "503")
def claims_that_wait(course: Course) -> None:
    body = {"category": ["nothing-is-here"], "wait": 5}
    ask(course, lambda _: as_user(course, "POST", "/tasks/claim-next", body), connections=50)


@attack("200", "304", "429")
def summaries(course: Course) -> None:
    ask(course, lambda _: as_user(course, "GET", "/dashboard/summary"), connections=12)


@attack("200", "429")
def notifications(course: Course) -> None:
    ways = [("GET", "/notifications"), ("POST", "/notifications/read")]
    ask(course, lambda number: as_user(course, *ways[number % 2]))


@attack("200", "429")
def pages_of_tasks(course: Course) -> None:
    sorts = ["", "&sort=-priority", "&sort=due_at", "&sort=-created_at"]
    ask(course, lambda number: as_user(course, "GET", f"/tasks?limit=200{sorts[number % len(sorts)]}"), connections=12)


@attack("200", "429")
def pages_of_people(course: Course) -> None:
    ask(course, lambda number: as_user(course, "GET", "/users?limit=200" if number % 2 else "/users/online?limit=200"))
