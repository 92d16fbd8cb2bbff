"""What an approval's page shows, and deciding exactly what it showed.

A run renews the waiting approval: between somebody's look and their press its list may have grown. So a decision
carries a digest of what was seen, and is refused when the list is another by now.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection

from django.core.exceptions import ValidationError
from django.db import transaction
from django.utils.translation import gettext_lazy as _

from connectors.actors import Actor
from connectors.models import Connector
from sync.enforcing.approvals import approval_approve, approval_raise, approval_reject
from sync.enforcing.judging import ANSWERED
from sync.models import Approval, HeldDenial
from sync.services import SyncRequest

APPROVE, REJECT, RAISE = "approve", "reject", "raise"


def kept_out_of(approval: Approval) -> set[int]:
    """Keys of the devices of its organization that a person said are not to be denied, by this approval or another,
    and whose verdict is still of before that: settings and rules that would deny one of them stay as they are."""
    rows = HeldDenial.objects.filter(approval__organization=approval.organization_id)
    answers = rows.filter(ANSWERED, device__gone_at__isnull=True)
    concerned = answers.filter(device__in=answers.filter(is_approved=False).values("device"))
    last = dict(concerned.order_by("approval__decided_at", "pk").values_list("device_id", "is_approved"))
    # Who is asked about again has no answer yet.
    asked = set(rows.filter(approval__state=Approval.State.WAITING).values_list("device_id", flat=True))
    return {device for device, is_approved in last.items() if not is_approved} - asked


def approval_digest(approval: Approval) -> str:
    """Of the denials with their reasons, and of the settings held."""
    rows = approval.denials.order_by("device_id").values_list("device_id", "access", "reason", "rule")
    digest = hashlib.sha256(repr(approval.settings_held).encode())
    for row in rows.iterator(chunk_size=5000):
        digest.update(repr(tuple(row)).encode())
    return digest.hexdigest()[:32]


@transaction.atomic
def approval_decide(
    *,
    approval: Approval,
    decision: str,
    seen: str,
    actor: Actor,
    note: str = "",
    leave_out: Collection[int] = (),
    to: int = 0,
) -> SyncRequest | None:
    """Approve, reject or raise what was seen (approval_digest). leave_out: keys of devices, for approving. to: for
    raising. Raises ValidationError, also with code "list_changed", and as approvals.py does."""
    # The same order of locks as there.
    Connector.objects.select_for_update().filter(organization=approval.organization_id).first()
    current = Approval.objects.select_for_update().get(pk=approval.pk)
    if current.state == Approval.State.WAITING and approval_digest(current) != seen:
        raise ValidationError(
            _("The list has changed since you saw it; nothing was decided. Look at it again, then decide."),
            code="list_changed",
        )
    if decision == APPROVE:
        return approval_approve(approval=current, actor=actor, note=note, leave_out=leave_out)
    if decision == RAISE:
        return approval_raise(approval=current, actor=actor, to=to, note=note)
    approval_reject(approval=current, actor=actor, note=note)
    return None
