"""What HIVE is deployed by, as it stands in the repository: containers and the unit of systemd."""

import re
from configparser import ConfigParser
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.utils.systemd import documented_unit

ROOT = Path(__file__).resolve().parents[2]
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
DOCKERFILE = (ROOT / "Dockerfile").read_text()


@pytest.mark.parametrize("name", SERVICES)
def test_a_container_has_no_more_than_it_needs(name: str) -> None:
    service = SERVICES[name]

    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["read_only"] is True
    assert "/tmp" in service["tmpfs"]
    assert {"pids_limit", "mem_limit"} <= set(service)
    assert {"max-size", "max-file"} <= set(service["logging"]["options"])
    assert "privileged" not in service
    # PostgreSQL changes its account at the start; nothing else has to.
    assert ("cap_add" in service) == (name == "postgres")


def test_only_the_api_is_published_and_on_this_machine_alone() -> None:
    assert [name for name, service in SERVICES.items() if "ports" in service] == ["api"]
    assert SERVICES["api"]["ports"] == ["${HOST:-127.0.0.1}:${PORT:-8000}:8000"]


def test_the_stores_are_reached_by_hive_alone() -> None:
    assert SERVICES["postgres"]["networks"] == ["database"]
    assert SERVICES["valkey"]["networks"] == ["queue"]
    assert COMPOSE["networks"] == {"database": {"internal": True}, "queue": {"internal": True}}
    assert {name for name, service in SERVICES.items() if "default" in service["networks"]} == {"api", "mail"}


def test_valkey_has_a_password_that_no_command_shows() -> None:
    assert "requirepass" in SERVICES["valkey"]["command"][-1]
    assert "VALKEY_PASSWORD" not in str(SERVICES["valkey"]["command"])
    for name in SERVICES.keys() - {"postgres", "valkey"}:
        assert SERVICES[name]["environment"]["REDIS_URL"].startswith("redis://:${VALKEY_PASSWORD:?")


def test_the_image_is_run_by_an_ordinary_account() -> None:
    assert re.findall(r"^USER (\w+)$", DOCKERFILE, re.MULTILINE) == ["hive"]
    assert DOCKERFILE.index("USER hive") < DOCKERFILE.index("CMD [")
    uid = re.search(r"useradd --uid (\d+)", DOCKERFILE)
    assert uid
    # Its data folder is in memory, and has to be its own.
    assert f"/data:uid={uid[1]},gid={uid[1]},mode=0700" in SERVICES["api"]["tmpfs"]


@pytest.fixture
def unit() -> str:
    """The unit that docs/production.md has."""
    return documented_unit()


def test_the_unit_has_no_more_than_it_needs(unit: str) -> None:
    parser = ConfigParser(interpolation=None, strict=True)
    parser.read_string(unit)
    service = parser["Service"]

    for name in ("NoNewPrivileges", "PrivateTmp", "PrivateDevices", "ProtectHome", "RestrictSUIDSGID"):
        assert service[name] == "yes"
    assert (service["ProtectSystem"], service["UMask"]) == ("strict", "0077")
    assert service["CapabilityBoundingSet"] == ""
    assert service["Environment"] == f"HIVE_DATA_DIR=/var/lib/{service['StateDirectory']}"
    assert service["User"] != "root"
