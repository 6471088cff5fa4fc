"""Clients with an address of their own."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

import httpx2
from fastapi import FastAPI


@asynccontextmanager
async def client_at(
    address: str, app: FastAPI, headers: Mapping[str, str] | None = None
) -> AsyncIterator[httpx2.AsyncClient]:
    """A client whose connections come from this address."""
    transport = httpx2.ASGITransport(app, client=(address, 50_000))
    async with httpx2.AsyncClient(
        transport=transport, base_url="http://hive.test/api/v1", headers=dict(headers or {})
    ) as client:
        yield client
