"""What people do to the ActiveSync mailbox policies of an organization: make, change, make default, remove, assign.

Each is one row of the journal with a key of its own, made when the form was shown: asked for twice, it is one. It is
sent once by a worker that stands near its Exchange (destructive.command_send), read back, and never again blindly. On a
connector that only observes, the row says what would have been sent, and nothing is.

Commands about policies go one at a time in an organization: two of them may be about the same default. Nothing here
asks Exchange itself but policies_read(), in the worker.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager

from django.core.exceptions import ValidationError
from django.db import transaction
from django.db.models.functions import Now
from django.utils.translation import gettext as _

from connectors import gateway
from connectors.actors import Actor
from connectors.exchange.client import ExchangeClient
from connectors.exchange.errors import CanceledError, ExchangeError
from connectors.exchange.policies import SETTINGS, PolicyValue
from connectors.models import Connector, ExchangeOrganization
from sync.acting import journal
from sync.acting.deeds import Deed
from sync.acting.destructive import SEND_WITHIN
from sync.acting.device_deeds import family_of
from sync.acting.journal import By, Intent
from sync.acting.policy_deeds import PolicyAssign, PolicyCreate, PolicyRemove, PolicySet
from sync.dispatch import command_dispatch, policies_dispatch
from sync.models import Command, Mailbox, MailboxPolicy
from sync.observing.mailbox_policy_rows import names_of, policies_observe
from sync.policies.mailbox_policy_values import DEFAULTS, changes, from_json, name_clean, settings_clean

logger = logging.getLogger(__name__)

OpenExchange = Callable[..., AbstractContextManager[ExchangeClient]]

SUBJECT = "policies"
# Mailboxes that one form assigns; each is a command of its own.
ASSIGNED_AT_ONCE = 50


def settings_of(policy: MailboxPolicy) -> dict[str, PolicyValue]:
    """A policy's settings as last read."""
    return from_json(policy.settings)


def settings_known(organization: ExchangeOrganization) -> tuple[str, ...]:
    """The settings that the organization's Exchange has, as its policies show; all of them before any was read."""
    rows = MailboxPolicy.objects.filter(organization=organization, gone_at=None).values_list("settings", flat=True)
    shown = {name for settings in rows for name in settings}
    return tuple(name for name in SETTINGS if name in shown) if shown else tuple(SETTINGS)


def stamp_of(policy: MailboxPolicy) -> str:
    """Names the state that a form was made from."""
    content = json.dumps([policy.name, policy.is_default, policy.settings], sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()[:16]


# --- what people ask for ----------------------------------------------------------------------------------------------


def policy_create(
    *, organization: ExchangeOrganization, name: str, settings: Mapping[str, PolicyValue], key: str, actor: Actor
) -> Command:
    """Make a policy. Every setting that is given is sent: what Exchange would take by itself differs by version.

    Raises ValidationError, as do the others: keyed by "name" and the settings' names, or with a code of no_connector,
    command_open, key_used, policy_gone, mailbox_gone, policy_conflict, unchanged, is_default, too_many.
    """
    connector = _connector(organization)
    known = _known(key, PolicyCreate.kind, organization)
    if known is not None:
        return known
    deed = creation_of(organization=organization, name=name, settings=settings)
    return _request(connector, SUBJECT, deed, key, actor)


def creation_of(*, organization: ExchangeOrganization, name: str, settings: Mapping[str, PolicyValue]) -> PolicyCreate:
    """What policy_create() would order; to be looked at first."""
    return PolicyCreate(
        name=_free_name(organization, name), family=_family(organization), settings=settings_clean(_unlisted(settings))
    )


def policy_change(
    *,
    policy: MailboxPolicy,
    name: str,
    settings: Mapping[str, PolicyValue],
    key: str,
    actor: Actor,
    based_on: str | None = None,
) -> Command:
    """Change a policy to these settings and this name; only what differs is sent. based_on: stamp_of() the form."""
    connector = _connector(policy.organization)
    known = _known(key, PolicySet.kind, policy.organization)
    if known is not None:
        return known
    deed = change_of(policy=policy, name=name, settings=settings, based_on=based_on)
    return _request(connector, SUBJECT, deed, key, actor)


def change_of(
    *, policy: MailboxPolicy, name: str, settings: Mapping[str, PolicyValue], based_on: str | None = None
) -> PolicySet:
    """What policy_change() would order; to be looked at first."""
    _there(policy)
    if based_on is not None and based_on != stamp_of(policy):
        raise ValidationError(
            _("The policy was changed in the meantime. Open the form again: it shows what Exchange has now."),
            code="policy_conflict",
        )
    new_name = name_clean(name)
    if new_name != policy.name:
        _free_name(policy.organization, new_name, but=policy)
    changed = settings_clean(changes(settings_of(policy), settings))
    if not changed and new_name == policy.name:
        raise ValidationError(_("Nothing is different: there is nothing to change."), code="unchanged")
    return PolicySet(
        policy=str(policy.guid),
        name=new_name if new_name != policy.name else "",
        family=_family(policy.organization),
        settings=changed,
    )


def policy_make_default(*, policy: MailboxPolicy, key: str, actor: Actor) -> Command:
    """Have mailboxes without a policy of their own take this one."""
    connector = _connector(policy.organization)
    known = _known(key, PolicySet.kind, policy.organization)
    if known is not None:
        return known
    _there(policy)
    if policy.is_default:
        raise ValidationError(_("This policy is the default already."), code="unchanged")
    deed = PolicySet(policy=str(policy.guid), name="", family=_family(policy.organization), make_default=True)
    return _request(connector, SUBJECT, deed, key, actor)


def policy_remove(*, policy: MailboxPolicy, key: str, actor: Actor) -> Command:
    """Remove a policy; its mailboxes have the default then. The default itself is refused."""
    connector = _connector(policy.organization)
    known = _known(key, PolicyRemove.kind, policy.organization)
    if known is not None:
        return known
    _there(policy)
    if policy.is_default:
        raise ValidationError(
            _(
                "This policy is the default of the organization and cannot be removed. Make another policy the "
                "default first."
            ),
            code="is_default",
        )
    deed = PolicyRemove(policy=str(policy.guid), name=policy.name, family=_family(policy.organization))
    return _request(connector, SUBJECT, deed, key, actor)


def policy_assign(
    *,
    organization: ExchangeOrganization,
    mailboxes: Sequence[Mailbox],
    policy: MailboxPolicy | None,
    key: str,
    actor: Actor,
) -> list[Command]:
    """Give mailboxes a policy of their own; None: the default again. One command a mailbox; those that have it already
    need none. All or none are ordered."""
    connector = _connector(organization)
    journal.key_check(key)
    if policy is not None:
        _there(policy)
    if len(mailboxes) > ASSIGNED_AT_ONCE:
        raise ValidationError(
            _("Choose up to %(limit)s mailboxes at once.") % {"limit": ASSIGNED_AT_ONCE}, code="too_many"
        )
    names = names_of(policy) if policy is not None else ()
    ordered = []
    with transaction.atomic():
        for mailbox in mailboxes:
            if mailbox.gone_at is not None or mailbox.organization_id != organization.pk:
                raise ValidationError(
                    _("Exchange does not have the mailbox “%(mailbox)s” any more.") % {"mailbox": mailbox},
                    code="mailbox_gone",
                )
            has = mailbox.mailbox_policy.strip().lower()
            own_key = f"{key[:60]}:{mailbox.pk}"
            has_it = has in names if policy is not None else not has
            if has_it and _known(own_key, PolicyAssign.kind, organization) is None:
                continue
            deed = PolicyAssign(
                mailbox=str(mailbox.guid),
                policy=str(policy.guid) if policy is not None else "",
                name=policy.name if policy is not None else "",
                names=names,
                domain=mailbox.domain,
            )
            ordered.append(
                _request(connector, journal.mailbox_subject(mailbox.pk), deed, own_key, actor, mailbox=mailbox)
            )
    return ordered


def settings_for_new(organization: ExchangeOrganization, copied: MailboxPolicy | None = None) -> dict[str, PolicyValue]:
    """What a new policy starts from: another one's settings, or what Exchange's documentation names as its own."""
    if copied is not None:
        return settings_of(copied)
    return {name: DEFAULTS[name] for name in settings_known(organization)}


# --- before it is ordered ---------------------------------------------------------------------------------------------


def _connector(organization: ExchangeOrganization) -> Connector:
    connector = Connector.objects.select_related("organization").filter(organization=organization).first()
    if connector is None:
        raise ValidationError(_("This organization has no connector."), code="no_connector")
    return connector


def _family(organization: ExchangeOrganization) -> str:
    return family_of(organization.version).value


def _there(policy: MailboxPolicy) -> None:
    if policy.gone_at is not None:
        raise ValidationError(_("Exchange does not have this policy any more."), code="policy_gone")


def _free_name(organization: ExchangeOrganization, name: str, but: MailboxPolicy | None = None) -> str:
    cleaned = name_clean(name)
    others = MailboxPolicy.objects.filter(organization=organization, gone_at=None)
    if but is not None:
        others = others.exclude(pk=but.pk)
    if any(other.lower() == cleaned.lower() for other in others.values_list("name", flat=True)):
        raise ValidationError({"name": _("There is a policy of this name already.")})
    return cleaned


def _unlisted(settings: Mapping[str, PolicyValue]) -> dict[str, PolicyValue]:
    """Without lists that hold nothing: a new policy has none anyway."""
    return {name: value for name, value in settings.items() if value != ()}


@transaction.atomic
def _request(
    connector: Connector, subject: str, deed: Deed, key: str, actor: Actor, *, mailbox: Mailbox | None = None
) -> Command:
    known = _known(key, deed.kind, connector.organization)
    if known is not None:
        return known
    state = Command.State.OBSERVED if connector.is_observe_only else Command.State.PLANNED
    intent = Intent(subject, deed, mailbox.pk if mailbox is not None else None, key=key)
    rows = journal.intents_write([intent], By(connector.organization_id, "", actor, deed.kind), state=state)
    if not rows:
        known = _known(key, deed.kind, connector.organization)  # the same form, sent twice at once
        if known is None:
            raise _busy(mailbox)
        return known
    if state == Command.State.PLANNED:
        Command.objects.filter(pk__in=rows).update(lease_expires_at=Now() + SEND_WITHIN)
    command = Command.objects.get(pk__in=rows)
    if state == Command.State.PLANNED:
        command_dispatch(command, connector)
    return command


def _known(key: str, kind: str, organization: ExchangeOrganization) -> Command | None:
    """The command that this form has ordered already."""
    journal.key_check(key)
    command = Command.objects.filter(key=key).first()
    if command is not None and (command.kind, command.organization_id) != (kind, organization.pk):
        raise journal.key_used()
    return command


def _busy(mailbox: Mailbox | None) -> ValidationError:
    if mailbox is not None:
        return ValidationError(
            _("Another command about the mailbox “%(mailbox)s” is under way. Try again in a moment.")
            % {"mailbox": mailbox},
            code="command_open",
        )
    return ValidationError(
        _("Another change of this organization's mailbox policies is under way. Try again in a moment."),
        code="command_open",
    )


# --- reading ----------------------------------------------------------------------------------------------------------


def policies_request(*, organization: ExchangeOrganization) -> None:
    """Have the policies read soon. Raises ValidationError (no_connector)."""
    policies_dispatch(_connector(organization))


def policies_read(connector_id: int, *, open_exchange: OpenExchange = gateway.open_exchange) -> bool:
    """Read an organization's policies now. What Exchange refuses is logged: the page shows when they were read last."""
    connector = Connector.objects.get(pk=connector_id)
    try:
        with open_exchange(connector, role="sync") as client:
            return policies_observe(client=client, organization_id=connector.organization_id)
    except (ExchangeError, CanceledError) as error:
        logger.warning("connector %s: mailbox policies cannot be read now: %r", connector_id, error)
        return False
