"""An organization's ActiveSync settings, device access rules and device classes: read from Exchange, kept on its row.

Changes nothing in Exchange. Rules that the account may not read stay as they were last known, and whoever would enforce
rules is told so: what is not seen cannot be compared.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from django.utils import timezone

from connectors.exchange.client import ExchangeClient
from connectors.exchange.errors import NotPermittedError
from connectors.models import ExchangeOrganization
from sync.deciding.facts import AccessRule, ExchangeSettings, Level
from sync.events import storable

logger = logging.getLogger(__name__)


def rules_observe(*, client: ExchangeClient, organization_id: int) -> bool:
    """Read and keep rules and device classes. False when the account may not read the rules. Raises ExchangeError."""
    try:
        rules = client.device_access_rules()
    except NotPermittedError as error:
        logger.warning("organization %s: device access rules cannot be read: %r", organization_id, error)
        return False
    kept: dict[str, object] = {
        "access_rules": storable(
            [[rule.identity, rule.characteristic, rule.query_string, rule.access_level] for rule in rules]
        ),
        "rules_observed_at": timezone.now(),
    }
    try:
        classes = client.device_classes()
    except NotPermittedError:
        logger.info("organization %s: device classes cannot be read", organization_id)
    else:
        kept["device_classes"] = storable(sorted({(one.device_type, one.device_model) for one in classes}))
    ExchangeOrganization.objects.filter(pk=organization_id).update(**kept)
    return True


def settings_observe(*, client: ExchangeClient, organization_id: int) -> bool:
    """Read and keep settings, rules and classes; as rules_observe()."""
    settings = client.organization_settings()
    ExchangeOrganization.objects.filter(pk=organization_id).update(
        default_access_level=str(storable(settings.default_access_level))[:32],
        user_mail_insert=storable(settings.user_mail_insert),
        admin_mail_recipients=storable(settings.admin_mail_recipients),
        settings_observed_at=timezone.now(),
    )
    return rules_observe(client=client, organization_id=organization_id)


def settings_facts(organization: ExchangeOrganization) -> ExchangeSettings:
    """The settings as last observed. A level that no version we know has counts as quarantine: it is none that lets
    anybody in, and none that tells a phone it is refused for good."""
    return ExchangeSettings(
        default_level=_level(organization.default_access_level or Level.ALLOW),
        rules=tuple(
            AccessRule(characteristic, query, _level(level), identity)
            for identity, characteristic, query, level in organization.access_rules
        ),
        user_mail_insert=organization.user_mail_insert,
        admin_mail_recipients=tuple(organization.admin_mail_recipients),
    )


def _level(text: str) -> Level:
    try:
        return Level(text.lower())
    except ValueError:
        return Level.QUARANTINE


def settings_to_json(settings: ExchangeSettings) -> dict[str, Any]:
    """As OrganizationLedger.settings keeps it, with all rules as they stood; which are ours is kept beside it."""
    return {
        "default_level": settings.default_level.value,
        "user_mail_insert": settings.user_mail_insert,
        "admin_mail_recipients": list(settings.admin_mail_recipients),
        "rules": rules_to_json(settings.rules),
    }


def settings_from_json(content: Mapping[str, Any] | None) -> ExchangeSettings | None:
    if content is None:
        return None
    return ExchangeSettings(
        default_level=_level(str(content["default_level"])),
        user_mail_insert=str(content["user_mail_insert"]),
        admin_mail_recipients=tuple(content["admin_mail_recipients"]),
        rules=rules_from_json(content.get("rules", ())),
    )


def rules_to_json(rules: Iterable[AccessRule]) -> list[list[str]]:
    """As OrganizationLedger.rules keeps them."""
    return [[rule.characteristic, rule.query, rule.level.value] for rule in rules]


def rules_from_json(content: Iterable[Sequence[str]]) -> tuple[AccessRule, ...]:
    return tuple(AccessRule(characteristic, query, _level(level)) for characteristic, query, level in content)
