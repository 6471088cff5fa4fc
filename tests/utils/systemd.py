"""The unit of systemd that the documentation has."""

import re
from pathlib import Path

PRODUCTION = Path(__file__).resolve().parents[2] / "docs" / "production.md"


def documented_unit() -> str:
    found = re.search(r"# /etc/systemd/system/hive@\.service\n(.*?)\n\n(?=\S)", PRODUCTION.read_text(), re.DOTALL)
    assert found
    return re.sub(r"^ {4}", "", found[1], flags=re.MULTILINE)
