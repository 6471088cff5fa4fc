"""Unit tests need no server and no program, so that all of them are over in seconds."""

import pytest

from app.config import Settings
from tests.conftest import ROOT

# What leads to a server, of the fixtures in tests/conftest.py.
SERVERS = {"servers", "chosen_stores", "mail_server"}


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Refuse a test that asks for a server, before one is started."""
    if SERVERS.intersection(getattr(item, "fixturenames", ())):
        pytest.fail(
            "A test in tests/unit gets no server, but a fixture of this one needs one. Move it to tests/integration.",
            pytrace=False,
        )


@pytest.fixture(scope="session")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """Settings that name no server."""
    return Settings(_env_file=ROOT / ".env.test", hive_data_dir=tmp_path_factory.mktemp("data"))
