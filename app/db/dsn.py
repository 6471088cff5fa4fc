"""The address of a PostgreSQL, as providers write it and as the driver reads it."""

from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

# Options that libpq reads itself and a server would refuse as unknown settings.
LIBPQ_CLIENT_OPTIONS = frozenset(
    {
        "channel_binding",
        "connection_limit",
        "client_encoding",
        "connect_timeout",
        "fallback_application_name",
        "gssencmode",
        "hostaddr",
        "keepalives",
        "keepalives_count",
        "keepalives_idle",
        "keepalives_interval",
        "load_balance_hosts",
        "max_protocol_version",
        "min_protocol_version",
        "pgbouncer",
        "pool_timeout",
        "require_auth",
        "sslcertmode",
        "sslcompression",
        "sslcrldir",
        "sslsni",
        "tcp_user_timeout",
    }
)


def asyncpg_dsn(url: str) -> str:
    """The URL as asyncpg takes it: any of the usual schemes, and without what only libpq understands."""
    parts = urlsplit(url)
    if parts.scheme.partition("+")[0] not in {"postgres", "postgresql"}:
        raise ValueError("DATABASE_URL must begin with postgresql://")
    options = [(key, value) for key, value in parse_qsl(parts.query) if key not in LIBPQ_CLIENT_OPTIONS]
    return urlunsplit(("postgresql", parts.netloc, parts.path, urlencode(options), ""))
