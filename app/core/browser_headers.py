"""What every answer tells browsers to refrain from."""

from collections.abc import Mapping

POLICY = "Content-Security-Policy"
# For what is no page: even if a browser takes it for one, it loads nothing, runs nothing and is in no frame.
STRICT_POLICY = "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
ALWAYS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "X-Frame-Options": "DENY",
}
ONLY_BY_HTTPS = {"Strict-Transport-Security": "max-age=31536000"}


def browser_headers(*, is_https: bool) -> Mapping[str, str]:
    """All but the policy, which a page may have of its own."""
    return ALWAYS | (ONLY_BY_HTTPS if is_https else {})
