"""`q`: which texts are found by what people type, in any language, and what a search without words means."""

import unicodedata
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx2
import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from app.models import TaskStatus, User
from app.schemas.task import TaskSort
from app.search_words import MAX_WORD_LENGTH, as_tsquery, likely_rarest
from app.services.search_index import index_tasks
from tests.builders.tasks import create_task
from tests.utils.serving import Serving


def decomposed(text: str) -> str:
    return unicodedata.normalize("NFD", text)


async def find(client: httpx2.AsyncClient, query: str) -> list[str]:
    answer = await client.get("/tasks", params={"q": query})
    assert answer.status_code == 200, answer.text
    return [task["title"] for task in answer.json()]


FOUND = [
    # Without spaces between words.
    ("東京の会議を準備する", "会議"),
    ("東京の会議を準備する", "東京"),
    ("東京の会議を準備する", "京"),
    ("東京の会議を準備する", "議"),
    ("東京の会議を準備する", "る"),
    ("東京の会議を準備する", "会議を準備する"),
    ("東京の会議を準備する", "東京 会議"),
    ("修复登录页面的错误", "修复"),
    ("修复登录页面的错误", "登录页面"),
    ("修复v2的错误", "v2"),
    ("修复v2的错误", "修复v2"),
    ("コンピュータを買う", "ピュータ"),
    ("コンピュータを買う", "ｺﾝﾋﾟｭｰﾀ"),
    ("ガイドを読む", decomposed("ガイド")),
    ("人々の声", "人々"),
    ("𠮷野家で昼食", "𠮷野"),
    ("ประชุมทีมวันจันทร์", "ทีม"),
    ("ประชุมทีมวันจันทร์", "ประช"),
    ("ประชุมทีมวันจันทร์", "จันทร์"),
    ("ທົດສອບລະບົບ", "ລະບົບ"),
    ("រៀបចំប្រជុំ", "ប្រជុំ"),
    ("အစည်းအဝေးပြင်ဆင်", "ပြင်ဆင်"),
    # Case and accents, composed and not.
    ("Café", "cafe"),
    ("Cafe", "café"),
    (decomposed("Café"), "Café"),
    ("Café", decomposed("CAFÉ")),
    ("Müller", "muller"),
    ("Muller", "MÜLLER"),
    ("Wohnung renovieren", "renov"),
    ("Wohnung renovieren", "renov wohn"),
    ("Straße fegen", "Strasse"),
    ("Strasse fegen", "STRAẞE"),
    ("Łódź ≠ Lodz", "lodz"),
    ("Smørrebrød", "smorrebrod"),
    ("Đường về Việt Nam", "duong viet"),
    ("Ærø", "aero"),
    ("Œuvre", "oeuvre"),
    ("İstanbul'a git", "istanbul"),
    ("ISPARTA ılıca", "ısparta ilica"),
    ("TITLE", "tıtle"),
    ("Ὀδυσσεύς", "ΟΔΥΣΣΕΥΣ"),
    ("ΟΔΥΣΣΕΥΣ", "οδυσσευς"),
    ("ёлка", "елка"),
    ("Чайник починить", "чаи"),
    (decomposed("Чайник"), "чай"),
    ("ЗАДАЧА", "задач"),
    ("한국 회의 준비", "회의"),
    (decomposed("한국 회의"), "회의"),
    ("회의", decomposed("회의")),
    ("한국", "하"),
    ("اَلْعَرَبِيَّةُ", "العربية"),
    ("العربية", "اَلْعَرَبِيَّةُ"),
    ("أحمد", "احمد"),
    ("كتاب", "کتاب"),
    ("می‌خواهم", "میخواهم"),
    ("مـــرحبا", "مرحبا"),
    ("שָׁלוֹם", "שלום"),
    ("हिन्दी में लिखो", "हिन्दी"),
    ("தமிழ்", "தமி"),
    ("გამარჯობა", "ᲒᲐᲛᲐᲠᲯᲝᲑᲐ"),
    # Widths, ligatures, digits.
    ("ＨＩＶＥ １２３", "hive 123"),
    ("hive", "ＨＩ"),
    ("ﬁnd oﬀers", "find offers"),
    ("find", "ﬁ"),
    ("Room ٤٢", "42"),
    ("100 m²", "m2"),
    ("Kapitel Ⅳ", "iv"),
    ("co\u00adoperate", "cooperate"),
    # What stands between words.
    ("Fix app/main.py", "main.py"),
    ("Fix app/main.py", "app/main"),
    ("Fix app/main.py", "MAIN"),
    (r"C:\Temp\log.txt", "temp"),
    ("INV-2024-0042", "0042"),
    ("INV-2024-0042", "inv-2024"),
    ("INV-2024-0042", "INV-2024-0042"),
    ("INV\u20112024", "inv-2024"),
    ("read_backlog is slow", "backlog"),
    ("read_backlog is slow", "read_back"),
    ("getUserName", "getuser"),
    ("https://example.org/a/b?c=d#e", "example.org"),
    ("Ask ada@example.org", "ada@example"),
    ("l’été", "l'été"),
    ("l'été", "ete"),
    ("м’ята", "мʼята"),
    ("rock'n'roll", "rock’n’roll"),
    ("(urgent!)", "urgent"),
    ("日本語のテスト（重要）", "重要"),
    ("🐝 Feed the bees", "🐝"),
    ("Work 👩🏽‍💻", "👩‍💻"),
    ("don't", "don't:*&|!("),
    ("x" * 190, "x" * 190),
]
NOT_FOUND = [
    ("東京の会議", "大阪"),
    ("東京の会議", "京東"),
    ("Wohnung renovieren", "novieren"),
    ("Fix app/main.py", "main.js"),
    ("INV-2024-0042", "42"),
    ("INV-2024-0042", "0043"),
    ("ประชุม", "ประชา"),
    ("🐝", "🐞"),
    ("Orchids", "🐝"),
    ("हिन्दी", "हन"),
    ("Water the orchids", "---"),
    ("Water --- orchids", "---"),
    ("Water the orchids", "!&|:*"),
    ("50%", "%"),
]


@pytest.mark.parametrize(("title", "query"), FOUND)
async def test_text_is_found(
    signed_in: httpx2.AsyncClient, session: AsyncSession, user: User, title: str, query: str
) -> None:
    await create_task(session, owner=user, title="Nothing of that kind")
    made = (await signed_in.post("/tasks", json={"title": title})).json()
    described = (await signed_in.post("/tasks", json={"title": "In a description", "description": title})).json()

    assert await find(signed_in, query) == [described["title"], made["title"]]


@pytest.mark.parametrize(("title", "query"), NOT_FOUND)
async def test_text_is_not_found(signed_in: httpx2.AsyncClient, title: str, query: str) -> None:
    await signed_in.post("/tasks", json={"title": title})

    assert await find(signed_in, query) == []


async def test_a_word_too_long_to_type_is_found_by_its_beginning(signed_in: httpx2.AsyncClient) -> None:
    await signed_in.post("/tasks", json={"title": "Key", "description": "é" * 20_000})

    assert await find(signed_in, "e" * MAX_WORD_LENGTH) == ["Key"]
    # Each of these is three letters to those who search.
    assert await find(signed_in, "ﬃ" * MAX_WORD_LENGTH) == []


@pytest.mark.parametrize(
    "description",
    [
        "".join(map(chr, range(0x4E00, 0x4E00 + 20_000))),
        "".join(map(chr, range(0x20000, 0x20000 + 20_000))),
        " ".join(map(str, range(10_000, 13_333))),
        "ﷺ" * 20_000,
        "".join(chr(0x3300 + number % 88) for number in range(20_000)),
        "กุ" * 10_000,
        "\u0e38" * 20_000,
        "क" + "\u093c" * 19_999,
        "'" * 20_000,
        "\\'" * 10_000,
        "".join(chr(code) for code in range(0xA0, 0x4EC0) if chr(code).isprintable()),
        "".join(chr(code) for code in range(0x10000, 0x14E20) if chr(code).isprintable()),
    ],
    ids=lambda text: f"{len(text)}-from-{ord(text[0]):x}",
)
async def test_the_longest_texts_can_be_searched(signed_in: httpx2.AsyncClient, description: str) -> None:
    made = await signed_in.post("/tasks", json={"title": "Long", "description": description})

    assert made.status_code == 201, made.text
    assert await find(signed_in, "long") == ["Long"]
    assert (await signed_in.get("/tasks", params={"q": description[:200]})).status_code == 200


WRITERS = {
    "patch": ("PATCH", "/tasks/{id}", {"title": "Rosen gießen"}),
    "patch_that_is_odd": ("PATCH", "/tasks/{id}?", {"title": "Rosen gießen"}),
    "put": ("PUT", "/tasks/{id}", {"title": "Rosen gießen"}),
    "batch": (
        "POST",
        "/tasks/batch",
        {"mode": "atomic", "items": [{"op": "update", "id": "{id}", "body": {"title": "Rosen gießen"}}]},
    ),
}


def filled(value: Any, task_id: str) -> Any:
    if isinstance(value, dict):
        return {name: filled(inner, task_id) for name, inner in value.items()}
    if isinstance(value, list):
        return [filled(inner, task_id) for inner in value]
    return value.replace("{id}", task_id)


@pytest.mark.parametrize(("method", "path", "body"), WRITERS.values(), ids=WRITERS.keys())
async def test_a_changed_text_is_found_by_its_new_words_alone(
    signed_in: httpx2.AsyncClient, method: str, path: str, body: dict[str, Any]
) -> None:
    task = (await signed_in.post("/tasks", json={"title": "Orchids", "description": "Twice a week"})).json()

    answer = await signed_in.request(method, filled(path, task["id"]), json=filled(body, task["id"]))

    assert answer.status_code == 200, answer.text
    assert await find(signed_in, "giessen") == ["Rosen gießen"]
    assert await find(signed_in, "week") == ["Rosen gießen"]
    assert await find(signed_in, "orchids") == []
    await signed_in.patch(f"/tasks/{task['id']}", json={"description": "Täglich"})
    assert await find(signed_in, "rosen taglich") == ["Rosen gießen"]
    assert await find(signed_in, "week") == []


async def test_tasks_of_a_batch_are_found(signed_in: httpx2.AsyncClient) -> None:
    items = [{"op": "create", "body": {"title": title}} for title in ("Café", "会議を準備する")]

    assert (await signed_in.post("/tasks/batch", json={"mode": "each", "items": items})).status_code == 200

    assert await find(signed_in, "cafe") == ["Café"]
    assert await find(signed_in, "準備") == ["会議を準備する"]


async def test_the_model_sets_the_words_with_the_texts(session: AsyncSession, user: User) -> None:
    task = await create_task(session, owner=user, title="Für", description="Elise")
    words = text("SELECT words::text FROM tasks WHERE id = :id")
    assert await session.scalar(words, {"id": task.id}) == "'elise' 'fur'"

    task.description = "mich"
    await session.flush()

    assert await session.scalar(words, {"id": task.id}) == "'fur' 'mich'"


async def test_a_task_that_something_else_wrote_is_found_after_the_job(
    signed_in: httpx2.AsyncClient, serving: Serving, session: AsyncSession, user: User
) -> None:
    task = await create_task(session, owner=user, title="Rosen gießen")
    await session.execute(text("UPDATE tasks SET words = NULL"))
    await session.commit()
    before = (await signed_in.get(f"/tasks/{task.id}")).json()
    assert await find(signed_in, "giessen") == []

    assert await serving.do(index_tasks) is False

    assert await find(signed_in, "giessen") == ["Rosen gießen"]
    assert (await signed_in.get(f"/tasks/{task.id}")).json() == before


OF_OLD_PROCESS = "UPDATE tasks SET title = 'Tulpen', description = '', version = version + 1 WHERE id = :id"


async def test_texts_that_an_old_process_changes_are_found_after_the_job(
    signed_in: httpx2.AsyncClient, serving: Serving, session: AsyncSession, user: User
) -> None:
    task = await create_task(session, owner=user, title="Rosen gießen")
    other = await create_task(session, owner=user, title="Farne gießen")

    await session.execute(text(OF_OLD_PROCESS), {"id": task.id})
    await session.commit()

    unindexed = await session.scalars(text("SELECT id FROM tasks WHERE words IS NULL"))
    assert unindexed.all() == [task.id]
    await serving.do(index_tasks)
    assert await find(signed_in, "tulp") == ["Tulpen"]
    assert await find(signed_in, "giessen") == [other.title]


@pytest.mark.parametrize(
    ("statement", "words"),
    [
        # The words are set, and stay the same.
        ("UPDATE tasks SET title = 'ROSES', words = '''roses'''", "'roses'"),
        ("UPDATE tasks SET title = 'Ferns', words = '''ferns'''", "'ferns'"),
        # They are taken away, so that they are made anew.
        ("UPDATE tasks SET title = 'Ferns', words = NULL", None),
        ("UPDATE tasks SET words = NULL", None),
        # No text is changed.
        ("UPDATE tasks SET title = title, description = description", "'roses'"),
        ("UPDATE tasks SET status = 'available'", "'roses'"),
        ("UPDATE tasks SET title = 'ROSES'", None),
        ("UPDATE tasks SET description = 'In pots'", None),
    ],
)
async def test_words_are_forgotten_when_texts_change_and_nothing_is_said_of_words(
    session: AsyncSession, user: User, statement: str, words: str | None
) -> None:
    await create_task(session, owner=user, title="Roses")

    await session.execute(text(statement))

    assert await session.scalar(text("SELECT words::text FROM tasks")) == words


@pytest.mark.parametrize(
    ("method", "path"), [("PATCH", "/tasks/{id}"), ("PUT", "/tasks/{id}"), ("PATCH", "/tasks/{id}?")]
)
async def test_a_task_is_found_at_once_when_its_words_stay_the_same(
    signed_in: httpx2.AsyncClient, method: str, path: str
) -> None:
    task = (await signed_in.post("/tasks", json={"title": "Water roses"})).json()

    for title in ("water ROSES!", "Roses: water"):
        answer = await signed_in.request(method, filled(path, task["id"]), json={"title": title})
        assert answer.status_code == 200, answer.text
        assert await find(signed_in, "rose") == [title]


@pytest.mark.parametrize("query", ["", " ", "\u3000", "\u200b", "\u00ad"])
async def test_a_search_that_is_empty_is_no_filter(signed_in: httpx2.AsyncClient, query: str) -> None:
    for title in ("Roses", "Orchids"):
        await signed_in.post("/tasks", json={"title": title, "status": "available"})

    assert await find(signed_in, query) == ["Orchids", "Roses"]
    assert (await signed_in.get("/tasks?q")).status_code == 200
    # The pages that follow are those of the same list.
    first = await signed_in.get("/tasks", params={"q": query, "limit": 1})
    second = await signed_in.get(first.links["next"]["url"].removeprefix("/api/v1"))
    assert [task["title"] for task in second.json()] == ["Roses"]
    claimed = await signed_in.post("/tasks/claim-next", json={"q": query})
    assert claimed.json()["title"] == "Roses"


@pytest.mark.parametrize(
    ("query", "title"),
    [("giess", "Rosen gießen"), ("会議", "東京の会議"), ("---", None), ("orchids", None), (None, "Rosen gießen")],
)
async def test_the_next_task_is_found_by_the_same_words(
    signed_in: httpx2.AsyncClient, query: str | None, title: str | None
) -> None:
    for each in ("Rosen gießen", "東京の会議"):
        await signed_in.post("/tasks", json={"title": each, "status": "available"})

    answer = await signed_in.post("/tasks/claim-next", json={"q": query})

    assert answer.status_code == (200 if title else 204)
    assert (answer.json()["title"] if answer.content else None) == title


# How many tasks a search goes through at first, how many it looks up, and of how many it asks for the ids.
WAYS = [(5_000, 50_000, 2_000), (4, 50_000, 2_000), (0, 50_000, 2_000), (0, 50_000, 0), (0, 0, 0), (8, 0, 0)]


@pytest.mark.parametrize(("first", "few", "ids"), WAYS)
async def test_tasks_are_found_alike_however_they_are_looked_for(
    signed_in: httpx2.AsyncClient,
    session: AsyncSession,
    user: User,
    monkeypatch: pytest.MonkeyPatch,
    first: int,
    few: int,
    ids: int,
) -> None:
    """In all orders, from page to page, with a filter; and by who claims the next task."""
    monkeypatch.setattr("app.reads.task_reads.FIRST", first)
    monkeypatch.setattr("app.reads.task_reads.FEW", few)
    monkeypatch.setattr("app.reads.task_reads.MOST_IDS", ids)
    monkeypatch.setattr("app.services.claim_service.FEW", few)
    now = datetime.now(UTC)
    for number in range(5):
        due_at = now + timedelta(days=9 - number) if number else None
        await create_task(session, owner=user, title=f"Red rose {number}", due_at=due_at)
        await create_task(session, owner=user, title=f"Rose {number}", due_at=now + timedelta(days=1))
        await create_task(session, owner=user, title=f"Reed {number}", status=TaskStatus.DRAFT)

    for sort in TaskSort:
        listed = await all_titles(signed_in, {"sort": sort, "status": "available"})
        found = await all_titles(signed_in, {"sort": sort, "status": "available", "q": "re ros", "limit": 2})
        assert found == [title for title in listed if title.startswith("Red")]
        assert len(found) == 5
    assert await find(signed_in, "roses") == []
    assert (await signed_in.post("/tasks/claim-next", json={"q": "ROSE re"})).json()["title"] == "Red rose 4"


async def all_titles(client: httpx2.AsyncClient, query: dict[str, Any]) -> list[str]:
    """Those of all pages."""
    answer = await client.get("/tasks", params=query)
    titles = [task["title"] for task in answer.json()]
    while "next" in answer.links:
        answer = await client.get(answer.links["next"]["url"].removeprefix("/api/v1"))
        titles += [task["title"] for task in answer.json()]
    return titles


def test_a_search_is_quoted() -> None:
    assert as_tsquery("it's A:* & !b | (c) <-> \\d '") == "'it':* & 's':* & 'a':* & 'b':* & 'c':* & 'd':*"
    assert as_tsquery("&|!") == ""


def test_a_beginning_that_another_word_has_is_not_looked_for() -> None:
    assert as_tsquery("w water wat roses r") == "'water':* & 'roses':*"
    assert as_tsquery("京 東京") == "'京':* & '東京':*"


def test_the_longest_words_are_taken_to_be_the_rarest() -> None:
    assert likely_rarest("a xylophone or water and rose") == ["'xylophone':*", "'water':*", "'rose':*"]
    assert likely_rarest("a b 1") == []
    assert likely_rarest("会議 a") == ["'会議':*"]
    # It's the search itself.
    assert likely_rarest("xylophone") == []
