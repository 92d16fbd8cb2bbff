"""What is ours of an organization's settings and rules: noted before a command is sent, put right by how it ended.

Both are called in the transaction that writes the command's row. Reads nothing from Exchange: what is known of it is
what outcomes.py kept.
"""

from __future__ import annotations

from dataclasses import replace

from sync.acting import deeds
from sync.acting.deeds import Deed
from sync.deciding.facts import AccessRule, ExchangeSettings, Level
from sync.models import OrganizationLedger
from sync.observing.rulebook import (
    rules_from_json,
    rules_to_json,
    settings_facts,
    settings_from_json,
    settings_to_json,
)

# Of which commands something is noted here, or taken back.
KINDS = tuple(kind for kind in deeds.KINDS if kind != deeds.MailboxEntries.kind)


def organization_ledger_note(organization_id: int, deed: Deed) -> None:
    """Before it is sent: what will be ours of settings and rules. To be called in the transaction of the intent."""
    if isinstance(deed, deeds.OrganizationSettings):
        row = _ledger_locked(organization_id)
        enforced = settings_from_json(row.settings) or settings_facts(row.organization)
        row.settings = settings_to_json(_with(enforced, deed))
    elif isinstance(deed, deeds.RuleCreate | deeds.RuleSet):
        row = _ledger_locked(organization_id)
        rules = {rule.key: rule for rule in rules_from_json(row.rules)}
        rule = AccessRule(deed.characteristic, deed.query, Level(deed.level))
        # A rule that somebody else made stays theirs when its level is changed.
        if isinstance(deed, deeds.RuleCreate) or rule.key in rules:
            rules[rule.key] = rule
        row.rules = rules_to_json(rules.values())
    else:
        return
    row.enforced_at = deeds.utc_now()
    row.save(update_fields=["settings", "rules", "enforced_at"])


def organization_ledger_settle(organization_id: int, deed: Deed, *, is_done: bool) -> None:
    """After it ended, by what is known of Exchange now: what was noted and did not come to be is taken back, and a rule
    that is not there is not ours any more."""
    if not isinstance(deed, deeds.OrganizationSettings | deeds.RuleDeed):
        return
    row = _ledger_locked(organization_id)
    found = settings_facts(row.organization)
    if isinstance(deed, deeds.OrganizationSettings):
        enforced = settings_from_json(row.settings)
        if not is_done and enforced is not None:
            changed = {name: getattr(found, name) for name, value in deed.payload().items() if value is not None}
            row.settings = settings_to_json(replace(enforced, **changed))
    else:
        there = {rule.key: rule for rule in found.rules}
        about = AccessRule(deed.characteristic, deed.query, Level.ALLOW).key
        # A rule that was there when we would have made it is somebody else's.
        is_lost = about not in there or (isinstance(deed, deeds.RuleCreate) and not is_done)
        rules = [there.get(rule.key, rule) if rule.key == about else rule for rule in rules_from_json(row.rules)]
        row.rules = rules_to_json(rule for rule in rules if rule.key != about or not is_lost)
    row.save(update_fields=["settings", "rules"])


def _ledger_locked(organization_id: int) -> OrganizationLedger:
    row, _ = OrganizationLedger.objects.get_or_create(organization_id=organization_id)
    return OrganizationLedger.objects.select_for_update().get(pk=row.pk)


def _with(settings: ExchangeSettings, deed: deeds.OrganizationSettings) -> ExchangeSettings:
    if deed.default_level is not None:
        settings = replace(settings, default_level=Level(deed.default_level))
    if deed.user_mail_insert is not None:
        settings = replace(settings, user_mail_insert=deed.user_mail_insert)
    if deed.admin_mail_recipients is not None:
        settings = replace(settings, admin_mail_recipients=deed.admin_mail_recipients)
    return settings
