"""Which of Celery's pools a worker of HIVE can have, and what is said of the others."""

from typing import Any

from celery import signals
from celery.concurrency import get_available_pool_names, get_implementation, prefork, solo

USABLE = (prefork.TaskPool, solo.TaskPool)


@signals.celeryd_init.connect
def refuse_what_does_not_work(options: dict[str, Any], conf: Any, **_: object) -> None:
    """End with a sentence before anything is started."""
    pool = get_implementation(options.get("pool") or options.get("pool_cls") or conf.worker_pool)
    if not issubclass(pool, USABLE):
        # A job runs in its process's one event loop, which threads and greenlets can't share.
        name = next(name for name in get_available_pool_names() if get_implementation(name) is pool)
        raise SystemExit(
            f"hive: a worker can't have the pool {name}: each job needs a process of its own. "
            "Leave --pool out, or set it to prefork or solo."
        )
    if options.get("autoscale"):
        # Celery ends what is too many by SIGTERM, which the pool's processes don't heed.
        raise SystemExit("hive: a worker can't have --autoscale. Set WORKER_CONCURRENCY or --concurrency instead.")
