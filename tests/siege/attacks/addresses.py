"""Addresses: parameters that are hard to read, answers that are large, and the same question again and again."""

from urllib.parse import quote, urlencode

from tests.siege.attacks.registry import attack
from tests.siege.stranger import Course, Request, as_user, ask

WORDS = ["water", "orchid", "the", "a", "task", "greenhouse", "x"]
LONG = 8_000


@attack("422", "429", "200")
def long_searches(course: Course) -> None:
    ask(course, lambda number: as_user(course, "GET", f"/tasks?q={quote(WORDS[number % 7] * (LONG // 10))}"))


@attack("422", "429")
def searches_of_signs(course: Course) -> None:
    ask(course, lambda _: as_user(course, "GET", "/tasks?q=" + quote("' & | ! ( ) : * \\ % _ \u202e\u0130\ufdfa" * 60)))


@attack("200", "429", "503")
def searches_of_frequent_words(course: Course) -> None:
    ask(course, lambda number: as_user(course, "GET", f"/tasks?limit=200&q={WORDS[number % 7]}"), connections=12)


@attack("422", "429", is_in_short_form=True)
def a_thousand_parameters(course: Course) -> None:
    query = urlencode({f"p{number}": number for number in range(1000)})
    ask(course, lambda _: as_user(course, "GET", f"/tasks?{query}"))


@attack("200", "422", "429")
def filters_again_and_again(course: Course) -> None:
    ask(course, lambda _: as_user(course, "GET", "/tasks?" + "&".join(["ready=1"] * 1_600)))


@attack("200", "422", "429")
def many_owners(course: Course) -> None:
    owners = "&".join(f"owner=00000000-0000-7000-8000-{number:012}" for number in range(300))
    ask(course, lambda _: as_user(course, "GET", f"/tasks?{owners}"))


@attack("400", "422", "429")
def junk_cursors(course: Course) -> None:
    ask(course, lambda number: as_user(course, "GET", f"/tasks?cursor={number}" + "e" * LONG))


@attack("200", "400", "410", "422", "429")
def positions_past_all_numbers(course: Course) -> None:
    ask(course, lambda number: as_user(course, "GET", "/events?after=" + "9" * (18 if number % 2 else LONG)))


@attack("422", "429")
def limits_past_all_numbers(course: Course) -> None:
    ask(course, lambda _: as_user(course, "GET", "/tasks?limit=" + "9" * LONG))


@attack("404", "422", "429")
def junk_ids(course: Course) -> None:
    ask(course, lambda number: as_user(course, "GET", f"/tasks/%00%ff%2e%2e%2f{number}" + "%F0" * 2000))


@attack("404", "429")
def paths_of_many_parts(course: Course) -> None:
    ask(course, lambda number: Request("GET", "/api/v1" + "/.." * 4000 + f"/{number}"))


@attack("404", "429", is_in_short_form=True)
def addresses_where_nothing_is(course: Course) -> None:
    ask(course, lambda number: Request("GET", f"/{number}/wp-login.php"))


@attack("200", "304", "429")
def the_document_of_the_api(course: Course) -> None:
    codings = ["identity", "gzip", "br, gzip"]
    ask(course, lambda number: Request("GET", "/openapi.json", headers={"Accept-Encoding": codings[number % 3]}))


@attack("200", "429")
def the_pages_for_people(course: Course) -> None:
    ask(course, lambda number: Request("GET", "/docs" if number % 2 else "/"))


@attack("401", "403", "429")
def metrics_without_a_right_to_them(course: Course) -> None:
    own = as_user(course, "GET", "/").headers
    ask(course, lambda number: Request("GET", "/metrics", headers=own if number % 2 else {}))


@attack("200", "429")
def readiness(course: Course) -> None:
    ask(course, lambda _: Request("GET", "/health/ready"))


@attack("200")
def health(course: Course) -> None:
    ask(course, lambda _: Request("GET", "/health"), connections=12)


@attack("200", "400", "404", "405", "429")
def preflights(course: Course) -> None:
    headers = {"Origin": "https://elsewhere.example", "Access-Control-Request-Method": "X" * 1000}
    ask(course, lambda _: Request("OPTIONS", "/api/v1/tasks", headers=headers))
