"""Operators, who look after the accounts of others, and the audit log of what they did."""

from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from functools import cache
from typing import Any
from uuid import UUID

from sqlalchemy import ARRAY, Text, any_, bindparam, select

from app.core import security_log
from app.core.permissions import SYSTEM, Actor
from app.db.transaction import Transaction
from app.models import AuditAction, AuditEntry
from app.schemas.admin import AuditQuery
from app.services.pages import Listing, Order, Page, Pager, scope_of


@dataclass(frozen=True, slots=True)
class Operator:
    """An admin and where their request comes from, or who uses the command line on HIVE's own machine."""

    actor: Actor
    address: str

    @property
    def account_id(self) -> UUID | None:
        return None if self.actor == SYSTEM else self.actor.id


AT_THE_MACHINE = Operator(SYSTEM, address="")


class AuditLog:
    """The caller has to make sure that the reader is an admin."""

    def __init__(self, transaction: Transaction) -> None:
        self._transaction = transaction

    def add(self, operator: Operator, action: AuditAction, subject_id: UUID, **data: Any) -> None:
        """Write down what is done, in the transaction that does it."""
        self._transaction.add(
            AuditEntry(
                action=action,
                actor_id=operator.account_id,
                subject_id=subject_id,
                address=operator.address,
                data=data,
            )
        )
        security_log.note(
            self._transaction.info,
            "admin action",
            action=action,
            by=operator.account_id or "command line",
            subject_id=subject_id,
            **data,
        )

    async def list_entries(self, query: AuditQuery, pager: Pager) -> Page[AuditEntry]:
        """Newest first."""
        asked = {"action": sorted(query.action), "subject": query.subject, "actor": query.actor}
        listing = _entries(frozenset(name for name, value in asked.items() if value))
        return await pager.fetch(listing, asked, query, scope=scope_of("audit", **asked))


@cache
def _entries(filters: AbstractSet[str]) -> Listing[AuditEntry]:
    entries = select(AuditEntry)
    if "action" in filters:
        entries = entries.where(AuditEntry.action == any_(bindparam("action", type_=ARRAY(Text()))))
    if "subject" in filters:
        entries = entries.where(AuditEntry.subject_id == bindparam("subject"))
    if "actor" in filters:
        entries = entries.where(AuditEntry.actor_id == bindparam("actor"))
    return Listing(entries, Order(key=AuditEntry.created_at, id=AuditEntry.id, descending=True))
