"""Which mailboxes a change of records, people or groups concerns: those to be looked at again.

Rather one too many than one too few: looking at a mailbox that nothing changed for costs little and changes nothing.
Reads only; bounded queries whatever the number of changes.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator

from django.db.models import Q, QuerySet, TextField
from django.db.models.functions import Cast, Lower

from sync.deciding.facts import text_key
from sync.deciding.people import UserKey
from sync.models import DeviceAccess, DeviceLink, Mailbox, ManagedDevice, MobileDevice, UserKeyText
from sync.records.record_store import COLUMNS, Touched, chunks

# An address that is no mailbox's first is looked for in the whole list of each: only for a few texts at a time.
FEW_TEXTS = 20
# Beyond this the mailboxes are walked once and not once for every chunk of texts.
MANY_TEXTS = 2000


def mailboxes_of_records(record_pks: Collection[int]) -> set[int]:
    """Keys of the mailboxes whose phones these records are, or may be."""
    by_tenant: dict[int, Touched] = {}
    for part in chunks(record_pks):
        for tenant_id, pk, *values in ManagedDevice.objects.filter(pk__in=part).values_list(
            "tenant_id", "pk", *COLUMNS
        ):
            by_tenant.setdefault(tenant_id, Touched()).add_record(pk, values)
    return {pk for tenant_id, touched in by_tenant.items() for pk in affected_mailboxes(tenant_id, touched)}


def affected_mailboxes(tenant_id: int, touched: Touched) -> set[int]:
    """Keys of the tenant's mailboxes that what was touched names: by the person, by the phone's id, by what was matched
    or linked before, and by address."""
    mailboxes = Mailbox.objects.filter(organization__tenant_id=tenant_id, gone_at=None)
    found: set[int] = set()
    for records in chunks(touched.records):
        # What was decided before counts too: the record may not name that phone any more.
        accesses = DeviceAccess.objects.filter(managed_device__in=records, device__owner__isnull=False)
        found.update(accesses.values_list("device__owner_id", flat=True))
        found.update(DeviceLink.objects.filter(managed_device__in=records).values_list("mailbox_id", flat=True))
    for people in chunks(touched.people):
        found.update(_pks(mailboxes.filter(person__tenant_id=tenant_id, person__source_id__in=people)))
    for ids in chunks(touched.device_ids):
        devices = MobileDevice.objects.filter(
            organization__tenant_id=tenant_id, device_id_key__in=_spellings(ids), owner__isnull=False
        )
        found.update(devices.values_list("owner_id", flat=True))
    if len(touched.texts) > MANY_TEXTS:
        found.update(_named_among(mailboxes, touched.texts))
    for texts in chunks(touched.texts):
        if len(touched.texts) <= MANY_TEXTS:
            named = mailboxes.annotate(smtp_key=Lower("primary_smtp"), upn_key=Lower("upn"))
            found.update(_pks(named.filter(Q(smtp_key__in=texts) | Q(upn_key__in=texts))))
        keys = UserKeyText.objects.filter(tenant_id=tenant_id, kind__in=(UserKey.SMTP, UserKey.UPN), text__in=texts)
        found.update(_pks(mailboxes.filter(person__in=keys.values("user"))))
    if 0 < len(touched.texts) <= FEW_TEXTS:
        found.update(_pks(_with_address(mailboxes, touched.texts)))
    return found


def _named_among(mailboxes: QuerySet[Mailbox], texts: Collection[str]) -> Iterator[int]:
    """All of them walked once: each query for some of many texts would walk them too, and a writer waits meanwhile."""
    for pk, smtp, upn in mailboxes.values_list("pk", "primary_smtp", "upn").iterator(chunk_size=5000):
        if text_key(smtp) in texts or text_key(upn) in texts:
            yield pk


def _with_address(mailboxes: QuerySet[Mailbox], texts: Iterable[str]) -> QuerySet[Mailbox]:
    named = Q()
    for text in texts:
        named |= Q(written__icontains=text)
    return mailboxes.annotate(written=Cast("addresses", TextField())).filter(named)


def _pks(mailboxes: QuerySet[Mailbox]) -> Iterable[int]:
    return mailboxes.values_list("pk", flat=True)


def _spellings(keys: Iterable[str]) -> list[str]:
    """Older rows of devices are keyed by full case folding, which differs from ours for a few letters outside ASCII."""
    return list({spelling for key in keys for spelling in (key, key.casefold())})
