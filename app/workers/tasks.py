"""The jobs as Celery sees them: thin shells around services.

A function under `@job` is the whole of a job's effect: it gets a transaction, and what it writes is committed together
with the mark that the job is done. Under `@job_outside` it has its effect elsewhere, and is marked afterwards. Either
is `async`, and can be called and tested without Celery.
"""

from collections.abc import Awaitable, Callable, Coroutine
from datetime import UTC, date, datetime, timedelta
from typing import Any
from uuid import UUID

from celery import Task

from app.core.permissions import Actor, ActorType
from app.core.sign_in_watch import purge_sign_in_changes
from app.db.transaction import Transaction
from app.events.jobs import ask_for_job
from app.events.retention import purge_events
from app.mail.breaker import MailPaused
from app.models import JobName
from app.services import LeaseService, NotificationService, Notifier, SessionService
from app.services.account_emptying import empty_ended_accounts
from app.services.account_mail import send_account_mail
from app.services.address_confirmation import send_confirmation
from app.services.api_token_service import ApiTokenService
from app.services.event_ticket_service import EventTicketService
from app.services.giving_back import give_back
from app.services.idempotency_service import IdempotencyService
from app.services.impact_score import recompute_impact_score as recompute
from app.services.job_service import Postponed, perform, perform_outside, purge_done_jobs
from app.services.mail_budget import send_digest
from app.services.notification_mail import NotificationMailer
from app.services.search_index import index_tasks
from app.workers.celery_app import celery_app
from app.workers.process import process

JobBody = Callable[..., Awaitable[None]]
Work = Callable[[UUID, dict[str, Any]], Coroutine[Any, Any, None]]


def job(name: JobName) -> Callable[[JobBody], Any]:
    """Make a Celery task of an async function `(transaction, **arguments)`, the whole effect of a job."""

    def decorate(body: JobBody) -> Any:
        async def work(job_id: UUID, arguments: dict[str, Any]) -> None:
            async def effect(transaction: Transaction) -> None:
                await body(transaction, **arguments)

            await perform(process.database, job_id, effect)

        return _celery_task(name, work, body.__doc__)

    return decorate


def job_outside(name: JobName) -> Callable[[JobBody], Any]:
    """Make a Celery task of an async function `(**arguments)` whose effect is outside of the database."""

    def decorate(body: JobBody) -> Any:
        async def work(job_id: UUID, arguments: dict[str, Any]) -> None:
            async def act() -> None:
                try:
                    await body(**arguments)
                except MailPaused as paused:
                    raise Postponed(datetime.now(UTC) + timedelta(seconds=paused.seconds)) from paused

            await perform_outside(process.database, job_id, act)

        return _celery_task(name, work, body.__doc__)

    return decorate


def _celery_task(
    name: JobName, work: Callable[[UUID, dict[str, Any]], Coroutine[Any, Any, None]], doc: str | None
) -> Any:
    # The Celery id of the message is the id of the job's row, which is how the shell finds the row.
    def run(self: "Task[..., None]", /, **arguments: Any) -> None:
        process.run(work(UUID(self.request.id), arguments))

    run.__doc__ = doc
    return celery_app.task(name=name.value, bind=True, ignore_result=True)(run)


@celery_app.task(name=JobName.TEST.value)
def test_celery_task(message: str = "HIVE's worker is alive") -> str:
    """Print a message and return it, to see that a worker works.

    Called directly, by `.delay()`, or through its row in the jobs table; only then is there a row to mark as done.
    """
    print(message)
    if test_celery_task.request.id is not None:
        process.run(perform(process.database, UUID(test_celery_task.request.id), _nothing_more))
    return message


# The name is part of HIVE's contract, and pytest would take it for a test.
test_celery_task.__test__ = False  # type: ignore[attr-defined]


async def _nothing_more(_session: Transaction) -> None:
    """It's printed already, whatever becomes of the row."""


@job(JobName.RECOMPUTE_IMPACT_SCORE)
async def recompute_impact_score(transaction: Transaction, *, user_id: str) -> None:
    await recompute(transaction, UUID(user_id))


@job(JobName.NOTIFY)
async def notify(transaction: Transaction, *, event_id: str) -> None:
    await Notifier(transaction, sends_mail=process.settings.smtp_url is not None).tell_of(UUID(event_id))


@job(JobName.TELL_OF_FAILED_SIGN_INS)
async def tell_of_failed_sign_ins(transaction: Transaction, *, user_id: str) -> None:
    await Notifier(transaction, sends_mail=process.settings.smtp_url is not None).tell_of_failed_sign_ins(UUID(user_id))


@job_outside(JobName.SEND_MAIL)
async def send_mail(*, notification_id: str) -> None:
    mailer = NotificationMailer(process.database, process.settings, process.mailer)
    await mailer.send(UUID(notification_id))


@job_outside(JobName.SEND_ACCOUNT_MAIL)
async def send_mail_about_account(*, address: str, mail_id: str) -> None:
    await send_account_mail(process.settings, process.mailer, address=address, mail_id=UUID(mail_id))


@job_outside(JobName.SEND_CONFIRMATION)
async def mail_confirmation(*, user_id: str) -> None:
    await send_confirmation(process.database, process.settings, process.mailer, UUID(user_id))


@job_outside(JobName.SEND_MAIL_DIGEST)
async def mail_digest(*, user_id: str, day: str) -> None:
    await send_digest(process.database, process.settings, process.mailer, UUID(user_id), date.fromisoformat(day))


@job(JobName.EXPIRE_LEASE)
async def expire_lease(transaction: Transaction, *, task_id: str, token: int) -> None:
    holds_until = await LeaseService(transaction).expire(UUID(task_id), token=token)
    if holds_until is not None:
        raise Postponed(holds_until)


@job(JobName.GIVE_BACK_TASKS)
async def give_back_tasks(
    transaction: Transaction, *, account_ids: list[str], until: str, actor_id: str, actor_type: str
) -> None:
    actor = Actor(UUID(actor_id), type=ActorType(actor_type))
    held_by = [UUID(account_id) for account_id in account_ids]
    await give_back(transaction, actor, held_by=held_by, until=datetime.fromisoformat(until))


@job(JobName.MARK_NOTIFICATIONS_READ)
async def mark_notifications_read(transaction: Transaction, *, user_id: str, until: str) -> None:
    await NotificationService(transaction).mark_some_read(Actor(UUID(user_id)), until=datetime.fromisoformat(until))


@job(JobName.REMIND_OF_DUE_TASKS)
async def remind_of_due_tasks(transaction: Transaction) -> None:
    notifier = Notifier(transaction, sends_mail=process.settings.smtp_url is not None)
    if await notifier.remind_of_due_tasks():
        ask_for_job(transaction, JobName.REMIND_OF_DUE_TASKS)


@job(JobName.INDEX_TASKS)
async def index_new_texts(transaction: Transaction) -> None:
    if await index_tasks(transaction):
        ask_for_job(transaction, JobName.INDEX_TASKS)


@job(JobName.EMPTY_ENDED_ACCOUNTS)
async def empty_accounts_that_ended(transaction: Transaction) -> None:
    if await empty_ended_accounts(transaction):
        ask_for_job(transaction, JobName.EMPTY_ENDED_ACCOUNTS)


@job(JobName.PURGE_EVENTS)
async def purge_old_events(transaction: Transaction) -> None:
    if await purge_events(transaction, keep=timedelta(days=process.settings.event_keep_days)):
        ask_for_job(transaction, JobName.PURGE_EVENTS)


@job(JobName.PURGE_NOTIFICATIONS)
async def purge_old_notifications(transaction: Transaction) -> None:
    keep = timedelta(days=process.settings.event_keep_days)
    if await NotificationService(transaction).purge(keep=keep):
        ask_for_job(transaction, JobName.PURGE_NOTIFICATIONS)


@job(JobName.PURGE_IDEMPOTENT_REQUESTS)
async def purge_idempotent_requests(transaction: Transaction) -> None:
    """Of what holds for a time: answers to requests, sessions, tokens, tickets, and what has changed about those."""
    are_more = [
        await IdempotencyService(transaction).purge(),
        # First, for those of a session or token that is forgotten go with it.
        await EventTicketService(transaction).purge(),
        await SessionService(transaction).purge(),
        await ApiTokenService(transaction).purge(),
        await purge_sign_in_changes(transaction),
    ]
    if any(are_more):
        ask_for_job(transaction, JobName.PURGE_IDEMPOTENT_REQUESTS)


@job(JobName.PURGE_FINISHED_JOBS)
async def purge_finished_jobs(transaction: Transaction) -> None:
    if await purge_done_jobs(transaction):
        ask_for_job(transaction, JobName.PURGE_FINISHED_JOBS)
