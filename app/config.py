"""Settings: the one place that reads the environment and `.env`."""

import json
import os
import re
import secrets
from email.headerregistry import Address
from enum import StrEnum
from functools import cached_property
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import parse_qsl, quote, urlencode, urlsplit, urlunsplit

from pydantic import Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from app.mail_settings import SmtpServer, origin_of, read_public_url, read_sender, read_smtp_url
from app.origins import Origins, read_origins

MIN_SECRET_LENGTH = 32
# Values that stand in this repository, so that everybody knows them.
PUBLISHED_SECRETS = frozenset(
    {
        "test-only-secret-key-that-protects-nothing-at-all",
        "test-only-jwt-secret-key-that-protects-nothing-at-all",
    }
)
MIN_BYTES_PER_DAY = 1024 * 1024
DEFAULT_REDIS_PREFIX = "hive"
MAX_REDIS_PREFIX_LENGTH = 64
# Nothing that stands for more than itself in a pattern, as in the permissions of a Redis user.
REDIS_PREFIX = re.compile(r"[A-Za-z0-9._-]+(:[A-Za-z0-9._-]+)*")
LogLevel = Literal["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"]


class ConfigurationError(Exception):
    """The settings can't be used; the message is one sentence for the operator."""


class Environment(StrEnum):
    DEVELOPMENT = "development"
    TEST = "test"
    PRODUCTION = "production"


class Registration(StrEnum):
    """Whether strangers may register."""

    OPEN = "open"
    INVITED = "invited"
    CLOSED = "closed"


class Settings(BaseSettings):
    """What can be set, with its default. `.env.example` explains each one."""

    model_config = SettingsConfigDict(
        env_file=".env", env_ignore_empty=True, extra="ignore", frozen=True, hide_input_in_errors=True
    )

    environment: Environment = Environment.DEVELOPMENT
    host: str = "127.0.0.1"
    port: int = Field(default=8000, ge=1, le=65535)
    metrics_host: str = "127.0.0.1"
    metrics_port: int | None = Field(default=None, ge=1, le=65535)
    log_level: LogLevel = "INFO"
    hive_data_dir: Path = Path(".hive")
    cors_origins: Annotated[tuple[str, ...], NoDecode] = ()

    database_url: SecretStr | None = None
    database_pool_size: int = Field(default=10, ge=3, le=200)
    redis_url: SecretStr | None = None
    redis_prefix: str = DEFAULT_REDIS_PREFIX
    celery_broker_url: SecretStr | None = None
    celery_result_backend: SecretStr | None = None
    worker_concurrency: int = Field(default=2, ge=1, le=64)

    secret_key: SecretStr | None = None
    jwt_secret_key: SecretStr | None = None
    access_token_minutes: int = Field(default=15, ge=1, le=24 * 60)
    sessions_per_account: int = Field(default=100, ge=1, le=10_000)
    registration: Registration | None = None
    docs: Literal["on", "off"] = "on"
    require_if_match: bool = False
    max_sockets_per_user: int = Field(default=20, ge=1, le=10_000)
    max_searches_per_user: int = Field(default=2, ge=1, le=1_000)
    search_seconds: float = Field(default=2.0, ge=0.1, le=10)
    max_connections_per_address: int = Field(default=200, ge=1, le=1_000_000)
    registrations_per_minute: int = Field(default=5, ge=0, le=1_000_000)
    requests_per_minute: int = Field(default=1200, ge=0, le=1_000_000)
    requests_per_address_and_second: int = Field(default=500, ge=0, le=1_000_000)
    bytes_per_user_and_day: int = Field(default=256 * 1024 * 1024, ge=0, le=2**50)
    open_tasks_per_user: int = Field(default=50_000, ge=0, le=10_000_000)
    trusted_proxies: Annotated[tuple[IPv4Network | IPv6Network | Literal["local"], ...], NoDecode] = ()

    mails_per_recipient_per_day: int = Field(default=50, ge=0, le=1_000_000)
    mails_per_sender_per_day: int = Field(default=200, ge=0, le=1_000_000)
    event_keep_days: int = Field(default=30, ge=1, le=3650)

    smtp_url: SecretStr | None = None
    mail_from: str | None = None
    public_url: str | None = None

    hive_embedded_durable: bool = True

    @field_validator("cors_origins", mode="before")
    @classmethod
    def _split_origins(cls, value: object) -> object:
        if isinstance(value, str):
            return read_origins(value)
        return value

    @field_validator("host", "metrics_host")
    @classmethod
    def _without_brackets(cls, value: str) -> str:
        return value.removeprefix("[").removesuffix("]")

    @field_validator("trusted_proxies", mode="before")
    @classmethod
    def _split_proxies(cls, value: object) -> object:
        if isinstance(value, str):
            return tuple(_read_proxy(proxy.strip()) for proxy in value.split(",") if proxy.strip())
        return value

    @field_validator("bytes_per_user_and_day")
    @classmethod
    def _enough_for_a_body(cls, value: int) -> int:
        if 0 < value < MIN_BYTES_PER_DAY:
            raise ValueError(f"it must be {MIN_BYTES_PER_DAY} or more, as one body may have, or 0 for any number")
        return value

    @field_validator("log_level", mode="before")
    @classmethod
    def _upper_case(cls, value: object) -> object:
        return value.upper() if isinstance(value, str) else value

    @field_validator("registration")
    @classmethod
    def _possible_registration(cls, value: Registration | None) -> Registration | None:
        if value is Registration.INVITED:
            raise ValueError("there are no invitations yet; it can be open or closed")
        return value

    @field_validator("redis_prefix")
    @classmethod
    def _readable_redis_prefix(cls, value: str) -> str:
        prefix = value.removesuffix(":")
        if len(prefix) > MAX_REDIS_PREFIX_LENGTH or not REDIS_PREFIX.fullmatch(prefix):
            raise ValueError(
                f"it must be 1 to {MAX_REDIS_PREFIX_LENGTH} letters, digits and any of . _ - :, such as hive or team-a"
            )
        return prefix

    @field_validator("smtp_url")
    @classmethod
    def _readable_smtp_url(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None:
            read_smtp_url(value.get_secret_value())
        return value

    @field_validator("mail_from")
    @classmethod
    def _readable_sender(cls, value: str | None) -> str | None:
        if value is not None:
            read_sender(value)
        return value

    @field_validator("public_url")
    @classmethod
    def _without_slash(cls, value: str | None) -> str | None:
        return None if value is None else read_public_url(value)

    @model_validator(mode="after")
    def _mail_has_a_sender(self) -> "Settings":
        if self.smtp_url is not None and self.mail_from is None:
            raise ValueError("MAIL_FROM is missing; with SMTP_URL, mail needs an address that it comes from")
        return self

    @model_validator(mode="after")
    def _strong_secrets_in_production(self) -> "Settings":
        if self.environment is Environment.PRODUCTION:
            for name in ("secret_key", "jwt_secret_key"):
                _refuse_weak_secret(name.upper(), getattr(self, name))
        return self

    @property
    def is_production(self) -> bool:
        return self.environment is Environment.PRODUCTION

    @property
    def opens_until_first_admin(self) -> bool:
        """Whether people may register as long as there is no admin who could make accounts for them."""
        return self.registration is None and self.is_production

    @property
    def needs_embedded_postgres(self) -> bool:
        return self.database_url is None

    @property
    def needs_embedded_valkey(self) -> bool:
        return self.redis_url is None

    @cached_property
    def data_dir(self) -> Path:
        return self.hive_data_dir.expanduser().resolve()

    @property
    def signing_key(self) -> str:
        """Signs what HIVE hands out and takes back, such as the cursors of lists."""
        return _given(self.secret_key, "SECRET_KEY")

    @property
    def jwt_key(self) -> str:
        return _given(self.jwt_secret_key, "JWT_SECRET_KEY")

    @property
    def smtp_server(self) -> SmtpServer | None:
        return None if self.smtp_url is None else read_smtp_url(self.smtp_url.get_secret_value())

    @property
    def mail_sender(self) -> Address | None:
        return None if self.mail_from is None else read_sender(self.mail_from)

    @property
    def public_path(self) -> str:
        """The path of `PUBLIC_URL`, empty or without a slash at its end."""
        return urlsplit(self.public_url or "").path.rstrip("/")

    @property
    def public_server(self) -> str | None:
        """`PUBLIC_URL` as far as requests go: what follows a `#` is for pages alone."""
        return self.public_url and urlsplit(self.public_url)._replace(query="", fragment="").geturl().rstrip("/")

    @property
    def is_https(self) -> bool:
        """Whether browsers reach HIVE by HTTPS, as far as it's told."""
        return urlsplit(self.public_url or "").scheme == "https"

    @property
    def serves_docs(self) -> bool:
        return self.docs == "on"

    @property
    def allows_local_origins(self) -> bool:
        """Whether pages that this machine serves may use HIVE, as in the development of one."""
        return self.environment is Environment.DEVELOPMENT

    @property
    def socket_origins(self) -> Origins:
        """The sites whose pages may open sockets. A proxy may give HIVE another host name than the page has."""
        own = {origin_of(self.public_url)} if self.public_url else set()
        return Origins(frozenset(self.cors_origins) | own, with_local=self.allows_local_origins)

    def celery_urls(self, redis_url: str) -> tuple[str, str]:
        """Broker and result backend, each the one that is set or else `redis_url` in Celery's words."""
        broker, backend = self.celery_broker_url, self.celery_result_backend
        return (
            _in_celery_words(broker.get_secret_value() if broker else redis_url),
            _in_celery_words(backend.get_secret_value() if backend else redis_url),
        )


def authority(host: str, port: int) -> str:
    """Return host and port as they are written in an address."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def load_settings() -> Settings:
    """Read the settings; outside production, make the secrets that are missing and keep them.

    Raises:
        ConfigurationError: a value can't be used, or production lacks a strong secret.
    """
    try:
        settings = Settings()
        if settings.is_production or (settings.secret_key and settings.jwt_secret_key):
            return settings
        kept = _kept_secrets(settings.data_dir)
        return settings.model_copy(
            update={
                "secret_key": settings.secret_key or SecretStr(kept["SECRET_KEY"]),
                "jwt_secret_key": settings.jwt_secret_key or SecretStr(kept["JWT_SECRET_KEY"]),
            }
        )
    except ValidationError as error:
        raise ConfigurationError(_in_one_sentence(error)) from error
    except OSError as error:
        raise ConfigurationError(f"The secrets in HIVE_DATA_DIR can't be kept: {error}.") from error


def _refuse_weak_secret(name: str, secret: SecretStr | None) -> None:
    if secret is None or not secret.get_secret_value():
        raise ValueError(f"{name} is missing; production needs one of at least {MIN_SECRET_LENGTH} characters")
    if secret.get_secret_value() in PUBLISHED_SECRETS:
        raise ValueError(f"{name} is a value that stands in HIVE's repository")
    if len(secret.get_secret_value()) < MIN_SECRET_LENGTH:
        raise ValueError(f"{name} is shorter than {MIN_SECRET_LENGTH} characters")


def _read_proxy(text: str) -> IPv4Network | IPv6Network | str:
    if text == "local":
        return text
    try:
        return ip_network(text)
    except ValueError:
        raise ValueError(f"{text} is neither an address, nor a network such as 10.0.0.0/8, nor local") from None


def _given(secret: SecretStr | None, name: str) -> str:
    if secret is None:
        raise ConfigurationError(f"{name} is not set.")
    return secret.get_secret_value()


def _kept_secrets(data_dir: Path) -> dict[str, str]:
    """The secrets of this data folder, made when they are first asked for.

    Several programs may start at once, so the file appears whole or not at all, and the first one wins.
    """
    path = data_dir / "secrets.json"
    if not path.exists():
        data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        draft = data_dir / f".secrets-{os.getpid()}-{secrets.token_hex(4)}"
        made = {name: secrets.token_urlsafe(48) for name in ("SECRET_KEY", "JWT_SECRET_KEY")}
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as file:
            json.dump(made, file)
            file.flush()
            os.fsync(file.fileno())
        try:
            os.link(draft, path)
        except FileExistsError:
            # Another process was first; its secrets are the ones that count.
            pass
        finally:
            draft.unlink()
    damaged = ConfigurationError(f"{path} is damaged; restore it, or delete it and all sessions end.")
    try:
        found = json.loads(path.read_text())
        kept = {name: found[name] for name in ("SECRET_KEY", "JWT_SECRET_KEY")}
    except (ValueError, KeyError, TypeError) as error:
        raise damaged from error
    if not all(isinstance(secret, str) and len(secret) >= MIN_SECRET_LENGTH for secret in kept.values()):
        raise damaged
    return kept


def _in_celery_words(redis_url: str) -> str:
    """Translate a redis-py URL to the dialect that Celery reads. Addresses of other servers stay as they are."""
    parts = urlsplit(redis_url)
    if parts.scheme not in {"unix", "redis", "rediss"}:
        return redis_url
    given_options = dict(parse_qsl(parts.query))
    # Celery refuses redis-py's other options, such as time-outs, and has its own.
    options = {name: value for name, value in given_options.items() if name.startswith(("ssl_", "virtual_host"))}
    if parts.scheme == "unix":
        # redis-py reads user and password from either place, Celery from the front alone.
        given = [quote(given_options.get(name, ""), safe="") for name in ("username", "password")]
        signed_in = f"{':'.join(given)}@" if any(given) else parts.netloc
        query = {"virtual_host": given_options.get("db", "0"), **options}
        return f"redis+socket://{signed_in}{parts.path}?{urlencode(query)}"
    if parts.scheme == "rediss":
        # redis-py checks certificates unless told otherwise; Celery refuses to start until it is told.
        options.setdefault("ssl_cert_reqs", "required")
    path = f"/{given_options['db']}" if "db" in given_options else parts.path
    return urlunsplit((parts.scheme, parts.netloc, path, urlencode(options), ""))


def _in_one_sentence(error: ValidationError) -> str:
    faults = []
    for fault in error.errors(include_url=False, include_input=False):
        name = ".".join(str(part) for part in fault["loc"]).upper()
        message = fault["msg"].removeprefix("Value error, ")
        faults.append(f"{name}: {message}" if name else message)
    return "HIVE can't start with these settings: " + "; ".join(faults) + "."
