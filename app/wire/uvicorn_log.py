"""What uvicorn says of each stranger's mistake, and nobody needs to read: HIVE counts these itself (`endings.py`)."""

import logging

STRANGERS_MISTAKES = frozenset(
    {
        "Invalid HTTP request received.",
        "Unsupported upgrade request.",
        "Invalid UTF-8 sequence received from client.",
    }
)


class WithoutStrangersMistakes(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        return record.msg not in STRANGERS_MISTAKES


def leave_out_mistakes_of_strangers() -> None:
    logger = logging.getLogger("uvicorn.error")
    if not any(isinstance(each, WithoutStrangersMistakes) for each in logger.filters):
        logger.addFilter(WithoutStrangersMistakes())
