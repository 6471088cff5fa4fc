"""Throw-away certificates for servers on the loopback address."""

import ssl
import subprocess
from dataclasses import dataclass
from pathlib import Path

REQUEST = [
    "openssl",
    "req",
    "-x509",
    "-newkey",
    "ec",
    "-pkeyopt",
    "ec_paramgen_curve:prime256v1",
    "-noenc",
    "-days",
    "2",
]
USAGE = ["-addext", "keyUsage=digitalSignature,keyCertSign"]


@dataclass(frozen=True)
class Certificate:
    """`path` is what has to be trusted. Key and certificate are in the one file."""

    path: Path

    @property
    def server_context(self) -> ssl.SSLContext:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(self.path)
        return context


def make_certificate(folder: Path, *, name: str = "IP:127.0.0.1") -> Certificate:
    """A certificate that signs itself, for the given name, in OpenSSL's words."""
    path = folder / "server.pem"
    made = [*REQUEST, *USAGE, "-subj", "/CN=hive-test", "-addext", f"subjectAltName={name}"]
    subprocess.run([*made, "-keyout", path, "-out", folder / "certificate.pem"], check=True, capture_output=True)
    with path.open("a") as file:
        file.write((folder / "certificate.pem").read_text())
    return Certificate(path)
