"""Whether what an administrator wants as a policy can work: every value of it, before a version is made.

Checks values alone; asks no server and no table (policy_groups.py knows the directory). Every ValidationError names
the thing, the reason and the remedy; keys are the names of the values, of a template `language.subject` or
`language.body`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any
from urllib.parse import urlsplit

from django.conf import settings
from django.core.exceptions import ValidationError
from django.core.validators import validate_email
from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _
from django.utils.translation import ngettext_lazy

from sync.deciding import facts
from sync.events import storable
from sync.notifying.mail_template import MailTemplate, TemplateProblem, validate
from sync.policies.policy import (
    MAIL_INSERT_LENGTH,
    GrandfatheringValues,
    GroupRef,
    NotificationValues,
    OrganizationPolicyValues,
    RuleValues,
    TenantPolicyValues,
)

# Exchange's own words for what a device access rule looks at.
CHARACTERISTICS = ("DeviceType", "DeviceModel", "DeviceOS", "UserAgent", "XMSWLHeader")
STALE_DAYS = (1, 3650)
GUARD_DEVICES = (0, 1_000_000)
REPEAT_DAYS = (0, 365)
LINK_LENGTH, CONTACT_LENGTH = 2000, 500
# Exchange's limit is not documented; ours is that of the column it is compared in.
QUERY_LENGTH = 512
GROUPS, RULES, RECIPIENTS = 200, 500, 100

Problems = dict[str, list[ValidationError]]


def tenant_values_clean(values: TenantPolicyValues) -> TenantPolicyValues:
    """The values, trimmed. Raises ValidationError keyed by value."""
    problems: Problems = {}
    for name in ("enabled", "override_default_rule", "target_everyone"):
        _gather(problems, name, _is_switch(getattr(values, name)))
    _gather(problems, "unlicensed", _one_of(values.unlicensed, list(facts.Unlicensed)))
    for name in ("unknown_compliance", "config_manager", "stale"):
        _gather(problems, name, _one_of(getattr(values, name), list(facts.Doubt)))
    if values.stale_days is not None:
        _gather(problems, "stale_days", _between(values.stale_days, *STALE_DAYS, _("days")))
    _gather(problems, "guard_devices", _between(values.guard_devices, *GUARD_DEVICES, _("devices")))
    _gather(problems, "guard_percent", _between(values.guard_percent, 0, 100, _("percent")))
    if values.guard_at_most is not None:
        _gather(problems, "guard_at_most", _between(values.guard_at_most, *GUARD_DEVICES, _("devices")))
        if not problems.keys() & {"guard_devices", "guard_at_most"} and values.guard_at_most < values.guard_devices:
            problems["guard_at_most"] = [
                ValidationError(
                    _("Enter at least the approval limit in devices, which is %(limit)s, or nothing."),
                    code="below_limit",
                    params={"limit": values.guard_devices},
                )
            ]
    included = _groups_clean(problems, "included_groups", values.included_groups)
    excluded = _groups_clean(problems, "excluded_groups", values.excluded_groups)
    if values.enabled is True and not values.target_everyone and not included and "included_groups" not in problems:
        problems["included_groups"] = [
            ValidationError(
                _("Access control would be on and reach nobody. Select at least one group to include, or all users."),
                code="nobody_included",
            )
        ]
    _raise(problems)
    return replace(
        values, included_groups=included, excluded_groups=excluded, guard_percent=float(values.guard_percent)
    )


def _groups_clean(problems: Problems, name: str, groups: tuple[GroupRef, ...]) -> tuple[GroupRef, ...]:
    """By id, each once; the first of two stays."""
    clean: dict[str, GroupRef] = {}
    for group in groups:
        one = GroupRef(_text(group.id), _text(group.name)[:255])
        if not one.id or len(one.id) > 255 or any(c.isspace() for c in one.id):
            _gather(
                problems,
                name,
                [
                    ValidationError(
                        _("“%(value)s” is not the ID of a group. Copy the group's object ID from the directory."),
                        code="group_id",
                        params={"value": one.id[:80]},
                    )
                ],
            )
        clean.setdefault(one.id.lower(), one)
    if len(clean) > GROUPS:
        _gather(problems, name, [_too_many(len(clean), GROUPS, _("groups"))])
    return tuple(clean.values())


def organization_values_clean(values: OrganizationPolicyValues) -> OrganizationPolicyValues:
    """The values, trimmed. Raises ValidationError keyed by value."""
    problems: Problems = {}
    levels = [level.value for level in facts.Level]
    if values.default_level is not None:
        _gather(problems, "default_level", _one_of(values.default_level, levels))
    _gather(problems, "denial", _one_of(values.denial, [facts.Level.BLOCK.value, facts.Level.QUARANTINE.value]))
    insert = None if values.user_mail_insert is None else _text(values.user_mail_insert).replace("\r\n", "\n")
    _gather(problems, "user_mail_insert", _insert_problems(insert))
    recipients = _recipients_clean(problems, values.admin_mail_recipients)
    rules = tuple(RuleValues(_text(r.characteristic), _text(r.query), _text(r.level)) for r in values.rules)
    _gather(problems, "rules", _rules_problems(rules))
    if values.grandfathering is not None:
        _gather(problems, "grandfathering", _grandfathering_problems(values.grandfathering))
    notification = _notification_clean(problems, values.notification)
    _raise(problems)
    return replace(
        values,
        user_mail_insert=insert,
        admin_mail_recipients=recipients,
        rules=rules,
        notification=notification,
    )


def _insert_problems(insert: str | None) -> Iterator[ValidationError]:
    # As Exchange counts: a sign beyond the first 65536 is two.
    length = len((insert or "").encode("utf-16-le", "surrogatepass")) // 2
    over = length - MAIL_INSERT_LENGTH
    if over > 0:
        yield ValidationError(
            ngettext_lazy(
                "The text is %(length)d characters long, %(over)d more than the %(limit)d that Exchange takes. "
                "Shorten it by that one, or put what is longer into the user notification.",
                "The text is %(length)d characters long, %(over)d more than the %(limit)d that Exchange takes. "
                "Shorten it by those %(over)d, or put what is longer into the user notification.",
                "over",
            ),
            code="insert_too_long",
            params={"length": length, "over": over, "limit": MAIL_INSERT_LENGTH},
        )


def _recipients_clean(problems: Problems, recipients: tuple[str, ...] | None) -> tuple[str, ...] | None:
    if recipients is None:
        return None
    clean: dict[str, str] = {}
    for recipient in (_text(one) for one in recipients):
        try:
            validate_email(recipient)
        except ValidationError:
            error = ValidationError(
                _("“%(value)s” is not a mail address such as help@contoso.com. Write one address in each line."),
                code="recipient_malformed",
                params={"value": recipient[:80]},
            )
            _gather(problems, "admin_mail_recipients", [error])
        clean.setdefault(recipient.lower(), recipient)
    if len(clean) > RECIPIENTS:
        _gather(problems, "admin_mail_recipients", [_too_many(len(clean), RECIPIENTS, _("recipients"))])
    return tuple(clean.values())


def _rules_problems(rules: tuple[RuleValues, ...]) -> Iterator[ValidationError]:
    if len(rules) > RULES:
        yield _too_many(len(rules), RULES, _("rules"))
    seen: set[tuple[str, str]] = set()
    for number, rule in enumerate(rules, start=1):
        yield from _rule_problems(number, rule)
        key = facts.AccessRule(rule.characteristic, rule.query, facts.Level.ALLOW).key
        if rule.query and key in seen:
            yield _rule_error(
                number,
                "rule_twice",
                _("%(characteristic)s “%(query)s” has a rule already. Remove one of the two."),
                rule,
            )
        seen.add(key)


def _rule_problems(number: int, rule: RuleValues) -> Iterator[ValidationError]:
    if rule.characteristic not in CHARACTERISTICS:
        yield _rule_error(
            number,
            "characteristic_unknown",
            _("“%(characteristic)s” is nothing that Exchange makes rules about. Choose one of: %(choices)s."),
            rule,
            choices=", ".join(CHARACTERISTICS),
        )
    if rule.level not in list(facts.Level):
        yield _rule_error(
            number,
            "level_unknown",
            _("“%(level)s” is no access level. Choose one of: %(choices)s."),
            rule,
            choices=", ".join(facts.Level),
        )
    if not rule.query:
        yield _rule_error(
            number,
            "query_empty",
            _("the value is missing. Enter what the phones send, such as iPhone, or remove the rule."),
            rule,
        )
    elif any(wildcard in rule.query for wildcard in "*?"):
        yield _rule_error(
            number,
            "query_wildcard",
            _(
                "“%(query)s” holds a wildcard (* or ?). Exchange compares the whole value exactly, so that such a rule "
                "would fit no phone. Make one rule for each value; the known device classes list them."
            ),
            rule,
        )
    elif len(rule.query) > QUERY_LENGTH:
        yield _rule_error(
            number,
            "query_too_long",
            _("the value is %(length)s characters long; no phone sends more than %(limit)s. Check what was pasted."),
            rule,
            length=len(rule.query),
            limit=QUERY_LENGTH,
        )


def _rule_error(number: int, code: str, sentence: Any, rule: RuleValues, **more: object) -> ValidationError:
    params = {"characteristic": rule.characteristic, "query": rule.query[:80], "level": rule.level, **more}
    return ValidationError(
        _("Rule %(number)s: %(sentence)s"), code=code, params={"number": number, "sentence": sentence % params}
    )


def _grandfathering_problems(kept: GrandfatheringValues) -> Iterator[ValidationError]:
    try:
        times = kept.facts()
        is_ordered = times.synced_since <= times.decided < times.until
    except (ValueError, TypeError, OverflowError):
        is_ordered = False
    if not is_ordered:
        yield ValidationError(
            _("Phones can be kept until a day that is still to come. Choose a later end."), code="grandfathering_times"
        )


def _notification_clean(problems: Problems, values: NotificationValues) -> NotificationValues:
    languages = [code for code, _name in settings.LANGUAGES]
    _gather(problems, "notification.enabled", _is_switch(values.enabled))
    _gather(problems, "notification.language", _one_of(values.language, languages))
    link, contact = _text(values.enrollment_link), _text(values.help_contact)
    _gather(problems, "notification.enrollment_link", _link_problems(link))
    if len(contact) > CONTACT_LENGTH:
        _gather(problems, "notification.help_contact", [_too_long(len(contact), CONTACT_LENGTH)])
    _gather(problems, "notification.repeat_days", _between(values.repeat_days, *REPEAT_DAYS, _("days")))
    templates = {}
    for language, template in values.templates.items():
        one = replace(template, subject=_text(template.subject), body=_lines(template.body))
        if language not in languages:
            _gather(problems, "notification.language", _one_of(language, languages))
        elif one.subject or one.body:
            templates[language] = one
            for part, error in template_errors(one.subject, one.body):
                _gather(problems, f"{language}.{part}", [error])
    return replace(values, enrollment_link=link, help_contact=contact, templates=templates)


def _link_problems(link: str) -> Iterator[ValidationError]:
    if not link:
        return
    if len(link) > LINK_LENGTH:
        yield _too_long(len(link), LINK_LENGTH)
        return
    try:
        parts = urlsplit(link)
        is_link = parts.scheme.lower() in ("http", "https") and bool(parts.hostname)
    except ValueError:
        is_link = False
    if not is_link or any(c.isspace() for c in link):
        yield ValidationError(
            _("“%(value)s” is not the address of a page. Enter it whole, beginning with https://."),
            code="link_malformed",
            params={"value": link[:80]},
        )


def template_errors(subject: str, body: str) -> list[tuple[str, ValidationError]]:
    """What is wrong with a template, as ("subject" or "body", error). A part left empty stands for the built-in text,
    and nothing is wrong with that."""
    found = []
    for problem in validate(MailTemplate(subject, body)):
        is_left_empty = problem.code == "empty" and not {"subject": subject, "body": body}[problem.part].strip()
        if problem.is_error and not is_left_empty:
            found.append((problem.part, ValidationError(str(template_sentence(problem)), code=problem.code)))
    return found


def template_warnings(subject: str, body: str) -> list[str]:
    """What is allowed but will not come out as written, as sentences."""
    return [
        str(template_sentence(problem))
        for problem in validate(MailTemplate(subject, body))
        if not problem.is_error and not (problem.code == "missing_link" and not body.strip())
    ]


_TEMPLATE_WORDS: Mapping[str, Any] = {
    "unknown_placeholder": _("There is no placeholder “%(name)s”. Use one of those listed below the text."),
    "suggestion": _("There is no placeholder “%(name)s”. Did you mean {{%(suggestion)s}}?"),
    "malformed_placeholder": _(
        "A placeholder is not complete. Write its name between two pairs of braces, such as {{person}}."
    ),
    "too_long": _("The text is longer than %(name)s characters. Shorten it."),
    "empty": _("There is no text. Write some, or leave the field empty for the built-in text."),
    "several_lines": _("A subject has one line only. Remove the line break."),
    "html_removed": _("HTML is not sent: <%(name)s> will be left out. Use Markdown instead."),
    "link_removed": _("The link “%(name)s” will be left out: only http, https, mailto and tel are sent."),
    "missing_link": _(
        "The text has no link for enrolling. Without {{enrollment_link}} people do not learn where to go."
    ),
}


def template_sentence(problem: TemplateProblem) -> str | Promise:
    """A problem of a template in words, with its place."""
    key = "suggestion" if problem.suggestion else problem.code
    words = _TEMPLATE_WORDS.get(key, _("The text cannot be used (%(code)s)."))
    sentence = words % {"name": problem.name[:80], "suggestion": problem.suggestion, "code": problem.code}
    if not problem.line or problem.part == "subject":
        return str(sentence)
    return _("Line %(line)s: %(sentence)s") % {"line": problem.line, "sentence": sentence}


# --- small checks ---------------------------------------------------------------------------------------------------


def _text(value: object) -> str:
    return str(storable(str(value))).strip()


def _lines(value: str) -> str:
    return _text(value.replace("\r\n", "\n"))


def _one_of(value: object, choices: list[Any]) -> Iterator[ValidationError]:
    if value not in choices:
        yield ValidationError(
            _("“%(value)s” cannot be chosen here. Choose one of: %(choices)s."),
            code="choice_unknown",
            params={"value": str(value)[:80], "choices": ", ".join(str(choice) for choice in choices)},
        )


def _is_switch(value: object) -> Iterator[ValidationError]:
    if not isinstance(value, bool):
        yield ValidationError(
            _("“%(value)s” is neither on nor off."), code="not_a_switch", params={"value": str(value)[:80]}
        )


def _between(value: object, low: float, high: float, unit: object) -> Iterator[ValidationError]:
    is_number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    if not is_number or not low <= value <= high:  # type: ignore[operator]  # a number by the line above
        yield ValidationError(
            _("%(value)s is outside of what is possible. Enter a number of %(unit)s from %(low)s to %(high)s."),
            code="out_of_range",
            params={"value": str(value)[:40], "unit": unit, "low": low, "high": high},
        )


def _too_many(count: int, limit: int, things: object) -> ValidationError:
    return ValidationError(
        _("%(count)s %(things)s are too many; %(limit)s are the most. Remove some."),
        code="too_many",
        params={"count": count, "things": things, "limit": limit},
    )


def _too_long(length: int, limit: int) -> ValidationError:
    return ValidationError(
        _("The text is %(length)s characters long; %(limit)s are the most. Shorten it."),
        code="too_long",
        params={"length": length, "limit": limit},
    )


def _gather(problems: Problems, name: str, errors: Any) -> None:
    found = list(errors)
    if found:
        problems.setdefault(name, []).extend(found)


def _raise(problems: Problems) -> None:
    if problems:
        raise ValidationError({name: list(errors) for name, errors in problems.items()})
