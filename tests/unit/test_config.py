"""Settings: what is refused, what is made and kept, how addresses are translated, and the two example files."""

import json
import re
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path

import pytest
from pydantic import SecretStr

from app.config import MIN_SECRET_LENGTH, PUBLISHED_SECRETS, ConfigurationError, Environment, Settings, load_settings
from app.core.redis import connect_redis
from app.workers.celery_app import configuration
from tests.conftest import ROOT

STRONG = "a-strong-secret-of-more-than-32-characters"
OTHER = "another-strong-secret-of-more-than-32-characters"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder without an `.env`, as the place that HIVE is started from."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def set_all(monkeypatch: pytest.MonkeyPatch, **values: str) -> None:
    for name, value in values.items():
        monkeypatch.setenv(name, value)


def refusal(monkeypatch: pytest.MonkeyPatch, **values: str) -> str:
    """The sentence with which these settings are refused."""
    set_all(monkeypatch, **values)
    with pytest.raises(ConfigurationError) as refused:
        load_settings()
    sentence = str(refused.value)
    assert "\n" not in sentence
    assert sentence.endswith(".")
    return sentence


WEAK = {"missing": "", "short": "x" * (MIN_SECRET_LENGTH - 1)}
WEAK |= {f"published {number}": secret for number, secret in enumerate(sorted(PUBLISHED_SECRETS))}


@pytest.mark.parametrize("weak", WEAK.values(), ids=WEAK.keys())
@pytest.mark.parametrize("name", ["SECRET_KEY", "JWT_SECRET_KEY"])
def test_production_refuses_a_weak_secret_by_name(monkeypatch: pytest.MonkeyPatch, name: str, weak: str) -> None:
    values = {"ENVIRONMENT": "production", "SECRET_KEY": STRONG, "JWT_SECRET_KEY": OTHER} | {name: weak}

    sentence = refusal(monkeypatch, **values)

    assert re.search(rf"\b{name} is", sentence)
    assert ("JWT_SECRET_KEY" in sentence) == (name == "JWT_SECRET_KEY")
    assert not weak or weak not in sentence


def test_production_takes_strong_secrets_and_makes_none(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    set_all(monkeypatch, ENVIRONMENT="production", SECRET_KEY=STRONG, JWT_SECRET_KEY=OTHER)

    settings = load_settings()

    assert settings.is_production
    assert (settings.signing_key, settings.jwt_key) == (STRONG, OTHER)
    assert not (folder / ".hive").exists()


def test_the_secrets_of_the_test_settings_are_known_to_be_published() -> None:
    values = env_file(ROOT / ".env.test")

    assert {values["SECRET_KEY"], values["JWT_SECRET_KEY"]} == PUBLISHED_SECRETS


def test_secrets_are_made_once_and_kept_for_the_owner_alone(folder: Path) -> None:
    first, second = load_settings(), load_settings()

    kept = folder / ".hive" / "secrets.json"
    assert kept.stat().st_mode & 0o777 == 0o600
    assert kept.parent.stat().st_mode & 0o777 == 0o700
    assert list(kept.parent.iterdir()) == [kept]
    assert (first.signing_key, first.jwt_key) == (second.signing_key, second.jwt_key)
    assert first.signing_key != first.jwt_key
    assert min(len(first.signing_key), len(first.jwt_key)) >= MIN_SECRET_LENGTH


def test_each_data_folder_has_secrets_of_its_own(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    keys = set()
    for name in ("one", "two"):
        monkeypatch.setenv("HIVE_DATA_DIR", str(folder / name))
        keys.add(load_settings().jwt_key)

    assert len(keys) == 2


def test_many_that_start_at_once_have_the_same_secrets(folder: Path) -> None:
    with ThreadPoolExecutor(16) as pool:
        found = list(pool.map(lambda _: load_settings().jwt_key, range(32)))

    assert len(set(found)) == 1
    assert [path.name for path in (folder / ".hive").iterdir()] == ["secrets.json"]


def test_a_secret_that_is_set_is_used_and_the_other_one_made(monkeypatch: pytest.MonkeyPatch) -> None:
    set_all(monkeypatch, JWT_SECRET_KEY="short, but set")

    settings = load_settings()

    assert settings.jwt_key == "short, but set"
    assert len(settings.signing_key) >= MIN_SECRET_LENGTH


@pytest.mark.parametrize("content", ["", "{", "[]", "null", '"text"', "{}", '{"SECRET_KEY": "x"}', "\x00"])
def test_a_damaged_file_of_secrets_is_said_in_a_sentence(
    monkeypatch: pytest.MonkeyPatch, folder: Path, content: str
) -> None:
    (folder / ".hive").mkdir()
    (folder / ".hive" / "secrets.json").write_text(content)

    sentence = refusal(monkeypatch)

    assert "secrets.json is damaged" in sentence


@pytest.mark.parametrize(
    "content", ['{"SECRET_KEY": 1, "JWT_SECRET_KEY": null}', '{"SECRET_KEY": "", "JWT_SECRET_KEY": ""}']
)
def test_a_file_whose_secrets_are_none_is_damaged(monkeypatch: pytest.MonkeyPatch, folder: Path, content: str) -> None:
    (folder / ".hive").mkdir()
    (folder / ".hive" / "secrets.json").write_text(content)

    assert "secrets.json is damaged" in refusal(monkeypatch)


def test_a_file_that_is_no_text_is_damaged(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    (folder / ".hive").mkdir()
    (folder / ".hive" / "secrets.json").write_bytes(b"\xff\xfe\x00")

    assert "secrets.json is damaged" in refusal(monkeypatch)


def test_a_folder_that_can_not_be_made_is_said_in_a_sentence(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    (folder / ".hive").write_text("a file where the folder should be")

    assert "HIVE_DATA_DIR" in refusal(monkeypatch)


def urls(redis_url: str, **given: str) -> tuple[str, str]:
    return Settings.model_validate({name: SecretStr(url) for name, url in given.items()}).celery_urls(redis_url)


@pytest.mark.parametrize(
    ("redis_url", "expected"),
    [
        ("redis://localhost:6379/0", "redis://localhost:6379/0"),
        ("redis://:p%40ss@host:6380/3", "redis://:p%40ss@host:6380/3"),
        ("redis://host/0?socket_timeout=5", "redis://host/0"),
        ("redis://host?db=4", "redis://host/4"),
        ("rediss://user:pass@host:6380/1", "rediss://user:pass@host:6380/1?ssl_cert_reqs=required"),
        ("rediss://host/0?ssl_cert_reqs=none", "rediss://host/0?ssl_cert_reqs=none"),
        (
            "rediss://host/0?ssl_ca_certs=/etc/ca.pem",
            "rediss://host/0?ssl_ca_certs=%2Fetc%2Fca.pem&ssl_cert_reqs=required",
        ),
        ("unix:///run/valkey.sock", "redis+socket:///run/valkey.sock?virtual_host=0"),
        ("unix:///run/valkey.sock?db=3", "redis+socket:///run/valkey.sock?virtual_host=3"),
        ("unix:///a%20b.sock?db=1&password=x", "redis+socket://:x@/a%20b.sock?virtual_host=1"),
        ("unix://user:p%40ss@/v.sock", "redis+socket://user:p%40ss@/v.sock?virtual_host=0"),
        ("unix:///v.sock?username=a:b&password=c%2Fd", "redis+socket://a%3Ab:c%2Fd@/v.sock?virtual_host=0"),
    ],
)
def test_celery_gets_the_redis_in_its_own_words(redis_url: str, expected: str) -> None:
    assert urls(redis_url) == (expected, expected)


@pytest.mark.parametrize(("given", "prefix"), [("", "hive"), ("team-a", "team-a"), ("a.b:c_d:", "a.b:c_d")])
def test_a_redis_prefix_begins_every_name(monkeypatch: pytest.MonkeyPatch, given: str, prefix: str) -> None:
    set_all(monkeypatch, REDIS_PREFIX=given)
    settings = load_settings()
    assert connect_redis("redis://localhost", prefix=settings.redis_prefix).key("workers") == f"{prefix}:workers"
    told = configuration(settings, "redis://localhost")
    for options in ("broker_transport_options", "result_backend_transport_options"):
        assert told[options]["global_keyprefix"] == f"{prefix}:celery:"


@pytest.mark.parametrize("prefix", [":", "::", "a::b", ":a", "a*", "a b", "{a}", "é", "a\n", "x" * 65])
def test_a_redis_prefix_is_refused_by_name(monkeypatch: pytest.MonkeyPatch, prefix: str) -> None:
    assert "REDIS_PREFIX: it must be 1 to 64 letters" in refusal(monkeypatch, REDIS_PREFIX=prefix)


def test_what_is_set_for_celery_wins_each_for_itself() -> None:
    ours = "redis://ours:6379/0"

    assert urls(ours, celery_broker_url="amqp://theirs") == ("amqp://theirs", ours)
    assert urls(ours, celery_result_backend="cache+memory://") == (ours, "cache+memory://")
    assert urls(ours, celery_broker_url="amqp://a", celery_result_backend="rpc://") == ("amqp://a", "rpc://")


def test_certificates_are_checked_whichever_way_the_address_came() -> None:
    secure = "rediss://theirs:6380/0"

    assert urls("redis://ours", celery_broker_url=secure)[0] == f"{secure}?ssl_cert_reqs=required"
    assert urls("redis://ours", celery_result_backend=secure)[1] == f"{secure}?ssl_cert_reqs=required"


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("", ()),
        ("https://a.example", ("https://a.example",)),
        ("https://a.example, https://b.example/ ,", ("https://a.example", "https://b.example")),
        ("*", ("*",)),
        ('["https://a.example", "http://b.example:8080/"]', ("https://a.example", "http://b.example:8080")),
        ("[]", ()),
        ("HTTPS://A.Example:443,http://[::1]:80", ("https://a.example", "http://[::1]")),
        ("https://a.example,https://a.example/", ("https://a.example",)),
        ("capacitor://localhost", ("capacitor://localhost",)),
    ],
)
def test_origins_are_a_list_with_commas(monkeypatch: pytest.MonkeyPatch, given: str, expected: tuple[str, ...]) -> None:
    set_all(monkeypatch, CORS_ORIGINS=given)

    assert load_settings().cors_origins == expected


@pytest.mark.parametrize(
    "given",
    [
        "app.example.org",
        "localhost:3000",
        "//a.example",
        "https://",
        "https://a.example/app",
        "https://a.example?x=1",
        "https://a.example#x",
        "https://user@a.example",
        "https://*.example.org",
        "https://a.example:http",
        "https://a.example:99999",
        "https://a example",
        "https://a.example;https://b.example",
        "null",
        "[",
        '["https://a.example"',
        "[1]",
        '[""]',
    ],
)
def test_what_is_no_origin_is_refused_by_name(monkeypatch: pytest.MonkeyPatch, given: str) -> None:
    assert "CORS_ORIGINS: " in refusal(monkeypatch, CORS_ORIGINS=given)


@pytest.mark.parametrize(
    ("origin", "is_local"),
    [
        ("http://localhost:5173", True),
        ("http://localhost", True),
        ("http://127.0.0.1:3000", True),
        ("http://[::1]:8080", True),
        ("https://localhost", False),
        ("http://localhost.example.org", False),
        ("http://localhost:80@evil.example", False),
        ("http://127.0.0.10", False),
        ("null", False),
    ],
)
def test_pages_of_this_machine_are_let_in_in_development(
    monkeypatch: pytest.MonkeyPatch, origin: str, *, is_local: bool
) -> None:
    assert (origin in load_settings().socket_origins) == is_local
    set_all(monkeypatch, ENVIRONMENT="production", SECRET_KEY=STRONG, JWT_SECRET_KEY=OTHER)
    assert origin not in load_settings().socket_origins


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("", []),
        ("127.0.0.1", ["127.0.0.1/32"]),
        ("10.0.0.0/8, ::1,local ,", ["10.0.0.0/8", "::1/128", "local"]),
    ],
)
def test_proxies_are_addresses_and_networks_with_commas(
    monkeypatch: pytest.MonkeyPatch, given: str, expected: list[str]
) -> None:
    set_all(monkeypatch, TRUSTED_PROXIES=given)

    assert [str(proxy) for proxy in load_settings().trusted_proxies] == expected


@pytest.mark.parametrize("given", ["*", "proxy.example.org", "10.0.0.1/8", "10.0.0.0/33", "10.0.0.1;10.0.0.2"])
def test_what_is_no_proxy_is_named(monkeypatch: pytest.MonkeyPatch, given: str) -> None:
    set_all(monkeypatch, TRUSTED_PROXIES=f"127.0.0.1,{given}")

    with pytest.raises(ConfigurationError, match=r"TRUSTED_PROXIES: .* is neither an address") as refused:
        load_settings()
    assert given in str(refused.value)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("PORT", "0"),
        ("REQUESTS_PER_MINUTE", "-1"),
        ("PORT", "65536"),
        ("PORT", "http"),
        ("ENVIRONMENT", "staging"),
        ("LOG_LEVEL", "chatty"),
        ("DATABASE_POOL_SIZE", "2"),
        ("MAX_SEARCHES_PER_USER", "0"),
        ("SEARCH_SECONDS", "0"),
        ("SEARCH_SECONDS", "60"),
        ("WORKER_CONCURRENCY", "1000"),
        ("ACCESS_TOKEN_MINUTES", "-5"),
        ("HIVE_EMBEDDED_DURABLE", "perhaps"),
    ],
)
def test_a_value_that_makes_no_sense_is_said_in_a_sentence(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    assert f" {name}: " in refusal(monkeypatch, **{name: value})


def test_all_faults_are_said_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    sentence = refusal(monkeypatch, PORT="http", LOG_LEVEL="chatty")

    assert "PORT" in sentence
    assert "LOG_LEVEL" in sentence


def test_a_fault_echoes_no_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    sentence = refusal(
        monkeypatch,
        ENVIRONMENT="production",
        SECRET_KEY="hunter2",
        JWT_SECRET_KEY="hunter3",
        DATABASE_URL="postgresql://user:hunter4@host/hive",
        PORT="http",
    )

    assert "hunter" not in sentence


def test_settings_show_no_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    set_all(
        monkeypatch, JWT_SECRET_KEY="hunter2", DATABASE_URL="postgresql://u:hunter3@h/d", REDIS_URL="redis://:hunter4@h"
    )

    assert "hunter" not in repr(load_settings())


@pytest.mark.parametrize("given", ["info", "Info", "INFO"])
def test_levels_may_be_written_in_any_case(monkeypatch: pytest.MonkeyPatch, given: str) -> None:
    set_all(monkeypatch, LOG_LEVEL=given)

    assert load_settings().log_level == "INFO"


def test_an_empty_value_is_an_unset_one(monkeypatch: pytest.MonkeyPatch) -> None:
    set_all(monkeypatch, DATABASE_URL="", REDIS_URL="", PORT="", ENVIRONMENT="")

    settings = load_settings()

    assert settings.needs_embedded_postgres
    assert settings.needs_embedded_valkey
    assert (settings.port, settings.environment) == (8000, Environment.DEVELOPMENT)


def test_the_environment_wins_over_the_file(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    (folder / ".env").write_text("PORT=9001\nHOST=0.0.0.0\nSOMETHING_ELSE=is nobody's business\n")
    set_all(monkeypatch, PORT="9002")

    settings = load_settings()

    assert (settings.port, settings.host) == (9002, "0.0.0.0")


def env_file(path: Path) -> dict[str, str]:
    lines = [line for line in path.read_text().splitlines() if line and not line.startswith("#")]
    return dict(line.split("=", 1) for line in lines)


def test_the_example_file_has_every_setting_and_no_other() -> None:
    assert sorted(env_file(ROOT / ".env.example")) == sorted(name.upper() for name in Settings.model_fields)


def test_the_example_file_explains_every_setting() -> None:
    lines = (ROOT / ".env.example").read_text().splitlines()

    for above, line in pairwise(lines):
        if line and not line.startswith("#"):
            assert above.startswith("# "), line
            assert len(above) > 10, line


def test_copying_the_example_file_changes_nothing(folder: Path) -> None:
    defaults = Settings(_env_file=None)
    (folder / ".env").write_text((ROOT / ".env.example").read_text())

    assert Settings() == defaults


def test_the_test_file_has_known_settings_of_tests_alone() -> None:
    values = env_file(ROOT / ".env.test")

    assert set(values) <= {name.upper() for name in Settings.model_fields}
    assert values["ENVIRONMENT"] == "test"
    assert not [name for name in values if name.endswith("_URL")]
    for name, value in values.items():
        assert not name.endswith("SECRET_KEY") or value.startswith("test-only-")


def test_nothing_but_the_settings_reads_the_environment() -> None:
    reading = re.compile(r"os\.(environ|getenv)\b")
    allowed = {"app/config.py"}

    found = {
        str(path.relative_to(ROOT))
        for path in (ROOT / "app").rglob("*.py")
        if reading.search(path.read_text()) and "embedded" not in path.parts
    }

    assert found <= allowed


def test_secrets_are_kept_as_json_of_two_names(folder: Path) -> None:
    settings = load_settings()

    assert json.loads((folder / ".hive" / "secrets.json").read_text()) == {
        "SECRET_KEY": settings.signing_key,
        "JWT_SECRET_KEY": settings.jwt_key,
    }
