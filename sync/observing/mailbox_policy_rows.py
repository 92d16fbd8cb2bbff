"""Mailbox policies as rows: kept as read from Exchange, and joined with the mailboxes that have them.

Changes nothing in Exchange. A mailbox names its policy by text: what it is called when the policy gets another name,
and that there is none when it is gone, is put right here, and read anew by the next full sync.
"""

from __future__ import annotations

import datetime
import logging
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from django.db import transaction
from django.db.models import Count, Q, QuerySet
from django.utils import timezone

from connectors.exchange.client import ExchangeClient
from connectors.exchange.errors import NotPermittedError
from connectors.exchange.records import MailboxPolicyRecord
from connectors.models import ExchangeOrganization
from connectors.selectors import Person, organizations_for
from sync.events import storable
from sync.models import Mailbox, MailboxPolicy
from sync.policies.mailbox_policy_values import to_json

logger = logging.getLogger(__name__)

_COLUMNS = ("identity", "distinguished_name", "name", "is_default", "settings", "when_changed", "read_at", "gone_at")


def policies_observe(*, client: ExchangeClient, organization_id: int) -> bool:
    """Read and keep the policies. False when the account may not read them: they stay as they were last known. Raises
    ExchangeError."""
    asked_at = timezone.now()
    try:
        records = client.mailbox_policies()
    except NotPermittedError as error:
        logger.warning("organization %s: mailbox policies cannot be read: %r", organization_id, error)
        return False
    policies_store(organization_id, records, asked_at=asked_at)
    return True


@transaction.atomic
def policies_store(
    organization_id: int, records: Sequence[MailboxPolicyRecord], *, asked_at: datetime.datetime
) -> None:
    """Keep what was read, all policies of the organization, at or after `asked_at`. What was read later stays."""
    # One reading after another: the rows of two would contradict each other (which one is the default).
    ExchangeOrganization.objects.select_for_update().filter(pk=organization_id).first()
    rows = {row.guid: row for row in MailboxPolicy.objects.filter(organization_id=organization_id)}
    if any(row.read_at > asked_at for row in rows.values()):
        return
    found = {record.guid: record for record in records if record.guid is not None}
    if len(found) < len(records):
        logger.warning("organization %s: a mailbox policy without a GUID is left out", organization_id)
    new, different = [], []
    for guid, record in found.items():
        row = rows.get(guid)
        values = {**_values(record), "read_at": asked_at, "gone_at": None}
        if row is None:
            new.append(MailboxPolicy(organization_id=organization_id, guid=guid, **values))
            continue
        if row.identity != values["identity"]:
            _holders(row).update(mailbox_policy=values["identity"][:255])
        for name, value in values.items():
            setattr(row, name, value)
        different.append(row)
    MailboxPolicy.objects.bulk_create(new)
    MailboxPolicy.objects.bulk_update(different, _COLUMNS, batch_size=100)
    for row in rows.values():
        if row.guid not in found and row.gone_at is None:
            # Active Directory empties a link whose target is gone: these mailboxes have the default then.
            _holders(row).update(mailbox_policy="")
            MailboxPolicy.objects.filter(pk=row.pk).update(gone_at=asked_at, is_default=False, read_at=asked_at)


def _values(record: MailboxPolicyRecord) -> dict[str, Any]:
    return {
        "identity": storable(record.identity),
        "distinguished_name": storable(record.distinguished_name),
        "name": storable(record.name or record.identity)[:255],
        "is_default": record.is_default,
        "settings": to_json(record.settings),
        "when_changed": record.when_changed,
    }


def mailbox_policies_for(person: Person) -> QuerySet[MailboxPolicy]:
    """Policies, those that are gone too, of the organizations a person may see; the default first, then by name."""
    return (
        MailboxPolicy.objects.filter(organization__in=organizations_for(person))
        .select_related("organization__tenant")
        .order_by("-is_default", "name", "pk")
    )


# --- who has which ----------------------------------------------------------------------------------------------------


def names_of(policy: MailboxPolicy) -> tuple[str, ...]:
    """All by which a mailbox may name the policy, in lower case: which of them Exchange writes is not documented."""
    named = (policy.identity, policy.name, policy.distinguished_name, str(policy.guid))
    return tuple(dict.fromkeys(text.strip().lower()[:255] for text in named if text.strip()))


def _named(names: Iterable[str]) -> Q:
    found = Q(pk__in=[])
    for name in names:
        found |= Q(mailbox_policy__iexact=name)
    return found


def _holders(policy: MailboxPolicy) -> QuerySet[Mailbox]:
    return Mailbox.objects.filter(_named(names_of(policy)), organization_id=policy.organization_id)


def mailboxes_of(policy: MailboxPolicy) -> QuerySet[Mailbox]:
    """Present mailboxes that have the policy: by their own choice, and of the default all that have none."""
    chosen = _named(names_of(policy))
    if policy.is_default:
        chosen |= Q(mailbox_policy="")
    return Mailbox.objects.filter(chosen, organization_id=policy.organization_id, gone_at=None)


def own_mailboxes_of(policy: MailboxPolicy) -> QuerySet[Mailbox]:
    """Present mailboxes that name the policy themselves."""
    return _holders(policy).filter(gone_at=None)


def assigned_counts(policies: Sequence[MailboxPolicy]) -> Mapping[int, int]:
    """How many present mailboxes have each policy of one organization, by the policy's key. One query."""
    if not policies:
        return {}
    by_name = {name: policy.pk for policy in policies for name in names_of(policy)}
    default = next((policy.pk for policy in policies if policy.is_default), None)
    rows = Mailbox.objects.filter(organization_id=policies[0].organization_id, gone_at=None)
    counts: Counter[int] = Counter()
    for named, count in rows.order_by().values_list("mailbox_policy").annotate(count=Count("pk")):
        key = by_name.get(named.strip().lower()) if named else default
        if key is not None:
            counts[key] += count
    return counts
