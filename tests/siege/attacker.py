"""The process of the attacker: `python -m tests.siege.attacker '{…}'` prints how each attack ended, as JSON."""

import json
import sys
import threading
import time

from tests.siege.attacks import ATTACKS
from tests.siege.stranger import Course, Target


def main(argument: str) -> None:
    wish = json.loads(argument)
    until = time.monotonic() + wish["seconds"]
    courses = {name: Course(Target(**target), until, wish["is_full"]) for name, target in wish["targets"].items()}
    threads = [threading.Thread(target=_run, args=(name, course)) for name, course in courses.items()]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    told = {name: {"ends": course.ends, "bytes": course.bytes_sent} for name, course in courses.items()}
    sys.stdout.write(json.dumps(told))


def _run(name: str, course: Course) -> None:
    try:
        ATTACKS[name].run(course)
    except Exception as error:
        # No attack declares such an end.
        course.note(f"its own {error!r}")
        raise


if __name__ == "__main__":
    main(sys.argv[1])
