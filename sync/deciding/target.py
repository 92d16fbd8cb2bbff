"""What an organisation's settings are to be: the policy where it says something, Exchange as it is where it does not.

The policy governs the rules it names, whoever made them. A rule that we made and the policy no longer names goes; one
of somebody else that it does not name stays as it is.
"""

from __future__ import annotations

from dataclasses import replace

from sync.deciding.commands import CreateRule, RemoveRule, SetOrganizationSettings, SetRuleLevel, SettingsCommand
from sync.deciding.facts import ExchangeSettings, Ledger, OrganizationPolicy


def target_settings(exchange: ExchangeSettings, policy: OrganizationPolicy, ledger: Ledger) -> ExchangeSettings:
    named = {rule.key: rule for rule in policy.rules}
    ours = {rule.key for rule in ledger.rules}
    present = {rule.key for rule in exchange.rules}
    kept = tuple(rule for rule in exchange.rules if rule.key not in named and rule.key not in ours)
    return ExchangeSettings(
        default_level=exchange.default_level if policy.default_level is None else policy.default_level,
        rules=(
            *kept,
            *(replace(named[rule.key], identity=rule.identity) for rule in exchange.rules if rule.key in named),
            *(rule for key, rule in named.items() if key not in present),
        ),
        user_mail_insert=exchange.user_mail_insert if policy.user_mail_insert is None else policy.user_mail_insert,
        admin_mail_recipients=(
            exchange.admin_mail_recipients if policy.admin_mail_recipients is None else policy.admin_mail_recipients
        ),
    )


def is_wanted(command: SettingsCommand, policy: OrganizationPolicy) -> bool:
    """Whether a command that was planned is still what the policy says."""
    named = {rule.key: rule.level for rule in policy.rules}
    match command:
        case SetOrganizationSettings():
            return (
                command.default_level in (None, policy.default_level)
                and command.user_mail_insert in (None, policy.user_mail_insert)
                and command.admin_mail_recipients in (None, policy.admin_mail_recipients)
            )
        case CreateRule(rule=rule):
            return named.get(rule.key) is rule.level
        case SetRuleLevel(rule=rule, level=level):
            return named.get(rule.key) is level
        case RemoveRule(rule=rule):
            return rule.key not in named
