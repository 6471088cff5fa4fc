"""The process of the attacker: `python -m tests.siege.attacker '{…}'` prints how each attack ended, as JSON."""

import json
import sys
import threading
import time

from tests.siege.attacks import ATTACKS
from tests.siege.stranger import Course, Target


def main(argument: str) -> None:
    wish = json.loads(argument)
    target = Target(**wish["target"])
    until = time.monotonic() + wish["seconds"]
    courses = {name: Course(target, until, wish["is_full"]) for name in wish["names"]}
    threads = [threading.Thread(target=ATTACKS[name], args=(course,)) for name, course in courses.items()]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    told = {name: {"ends": course.ends, "bytes": course.bytes_sent} for name, course in courses.items()}
    sys.stdout.write(json.dumps(told))


if __name__ == "__main__":
    main(sys.argv[1])
