"""Those who use HIVE while it's measured. They sign in as anybody does."""

import httpx2

from bench.rows import email_of
from tests.utils.test_utils import PATIENCE

PASSWORD = "correct horse battery staple"


async def sign_in(address: str, people: int) -> list[str]:
    """Access tokens of the first people, as the API at this address gives them."""
    tokens = []
    async with httpx2.AsyncClient(base_url=f"{address}/api/v1", timeout=PATIENCE) as http:
        for number in range(people):
            answer = await http.post("/auth/login", json={"email": email_of(number), "password": PASSWORD})
            tokens.append(answer.raise_for_status().json()["access_token"])
    return tokens
