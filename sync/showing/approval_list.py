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
from sync.models import Approval
from sync.services import SyncRequest

APPROVE, REJECT, RAISE = "approve", "reject", "raise"


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
