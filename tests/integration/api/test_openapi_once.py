"""The document of the API: made once, compressed for who takes that, and not sent again to who has it."""

import httpx2
import pytest
from fastapi import FastAPI

URL = "http://hive.test/openapi.json"


async def test_the_document_is_made_once(
    client: httpx2.AsyncClient, app: FastAPI, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = await client.get(URL)
    monkeypatch.setattr(app, "openapi", dict)

    assert (await client.get(URL)).content == before.content


async def test_who_takes_gzip_gets_a_tenth(client: httpx2.AsyncClient) -> None:
    plain = await client.get(URL, headers={"Accept-Encoding": "identity"})
    compressed = await client.get(URL, headers={"Accept-Encoding": "br, gzip"})

    assert "Content-Encoding" not in plain.headers
    assert compressed.headers["Content-Encoding"] == "gzip"
    assert all("Accept-Encoding" in answer.headers["Vary"] for answer in (plain, compressed))
    assert int(compressed.headers["Content-Length"]) * 5 < int(plain.headers["Content-Length"])
    assert compressed.json() == plain.json()
    assert compressed.headers["ETag"] != plain.headers["ETag"]


@pytest.mark.parametrize("accepted", ["", "identity", "br", "gzip;q=0", "br, gzip; q=0.0"])
async def test_who_does_not_take_gzip_gets_none(client: httpx2.AsyncClient, accepted: str) -> None:
    answer = await client.get(URL, headers={"Accept-Encoding": accepted})

    assert "Content-Encoding" not in answer.headers


@pytest.mark.parametrize("accepted", ["identity", "gzip"])
@pytest.mark.parametrize("form", ["{}", "W/{}", '"another", {}', "*"])
async def test_who_has_it_is_told_so(client: httpx2.AsyncClient, accepted: str, form: str) -> None:
    headers = {"Accept-Encoding": accepted}
    tag = (await client.get(URL, headers=headers)).headers["ETag"]

    again = await client.get(URL, headers={**headers, "If-None-Match": form.format(tag)})
    other = await client.get(URL, headers={**headers, "If-None-Match": '"another"'})

    assert (again.status_code, again.content, again.headers["ETag"]) == (304, b"", tag)
    assert other.status_code == 200
