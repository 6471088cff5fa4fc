"""The ceiling of jobs: a Celery worker with a task that does nothing but look at the clock.

HIVE_BENCH_BROKER=redis://… celery -A bench.ceilings.bare_jobs worker
"""

import os
import time

from celery import Celery

BROKER = "HIVE_BENCH_BROKER"

bare = Celery("bare", broker=os.environ.get(BROKER), backend=os.environ.get(BROKER))
# As HIVE has them, so that its own share is all that differs.
bare.conf.update(
    broker_transport_options={"global_keyprefix": "bare:"},
    result_backend_transport_options={"global_keyprefix": "bare:"},
    task_default_queue="bare",
    task_acks_late=True,
    worker_prefetch_multiplier=1,
    worker_concurrency=2,
)


@bare.task(name="moment")
def moment() -> float:
    """When it was done, by this machine's clock."""
    return time.time()
