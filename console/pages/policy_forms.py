"""Forms of the policy's pages: from the values of a policy and back. What they accept is checked by the services."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from django import forms
from django.conf import settings
from django.core.exceptions import ValidationError
from django.http import QueryDict
from django.utils.translation import gettext_lazy as _

from connectors.models import Authentication, NotificationAccount
from connectors.notification_accounts import NotificationAccountSettings
from connectors.secrets import Secret
from sync.deciding import facts
from sync.policies.policy import (
    GroupRef,
    MailTemplateValues,
    NotificationValues,
    OrganizationPolicyValues,
    RuleValues,
    TenantPolicyValues,
)
from sync.policies.policy_words import DOUBTS, LEVELS, TENANT_LABELS, UNLICENSED

if TYPE_CHECKING:
    from django_stubs_ext import StrOrPromise

EVERYONE, GROUPS = "everyone", "groups"
NOT_MANAGED = ""


def errors_put(form: forms.Form, error: ValidationError, names: Mapping[str, str] | None = None) -> None:
    """Show what a service refused at the fields it is about; at the top where there is no such field.

    names: of the form's fields, by those of the values where they differ.
    """
    if not hasattr(error, "error_dict"):
        form.add_error(None, error)
        return
    for name, errors in error.error_dict.items():
        field = (names or {}).get(name, name)
        form.add_error(field if field in form.fields else None, errors)


class GroupsField(forms.Field):
    """Groups as the boxes that are ticked send them: "<id>|<name>"."""

    widget = forms.MultipleHiddenInput

    def to_python(self, value: Any) -> tuple[GroupRef, ...]:
        found: dict[str, GroupRef] = {}
        for text in value or ():
            group_id, _bar, name = str(text).partition("|")
            if group_id.strip():
                found.setdefault(group_id.strip().lower(), GroupRef(group_id.strip(), name.strip()))
        return tuple(found.values())

    def prepare_value(self, value: Any) -> list[str]:
        return [f"{one.id}|{one.name}" if isinstance(one, GroupRef) else str(one) for one in value or ()]


def _choices(words: Mapping[str, StrOrPromise]) -> list[tuple[str, StrOrPromise]]:
    return [(str(value), label) for value, label in words.items()]


class TenantPolicyForm(forms.Form):
    """Exchange on-premises access of a tenant."""

    enabled = forms.BooleanField(
        required=False,
        label=TENANT_LABELS["enabled"],
        help_text=_(
            "On: devices of the people below reach Exchange only when they are enrolled and compliant. Off: what "
            "Gatehouse wrote for single devices is withdrawn, and Exchange's own settings decide."
        ),
    )
    override_default_rule = forms.BooleanField(
        required=False,
        label=TENANT_LABELS["override_default_rule"],
        help_text=_("They get access even where the default access level or a rule blocks or quarantines."),
    )
    target = forms.ChoiceField(
        label=_("Included groups"),
        choices=[(EVERYONE, _("All users")), (GROUPS, _("Selected groups"))],
        widget=forms.RadioSelect,
    )
    included_groups = GroupsField(required=False, label=_("Included groups"))
    excluded_groups = GroupsField(required=False, label=_("Excluded groups"))
    unlicensed = forms.ChoiceField(
        label=TENANT_LABELS["unlicensed"],
        choices=_choices(UNLICENSED),
        help_text=_("People of the included groups whom no license allows to enroll devices."),
    )
    unknown_compliance = forms.ChoiceField(
        label=TENANT_LABELS["unknown_compliance"],
        choices=_choices(DOUBTS),
        help_text=_("Enrolled devices of which device management does not say yet whether they are compliant."),
    )
    config_manager = forms.ChoiceField(
        label=TENANT_LABELS["config_manager"],
        choices=_choices(DOUBTS),
        help_text=_("Devices whose compliance is left to Configuration Manager."),
    )
    stale_days = forms.IntegerField(
        required=False,
        label=_("Devices that stopped checking in, after days"),
        help_text=_("Enrolled devices that did not check in for so many days. Empty: never."),
    )
    stale = forms.ChoiceField(label=_("They then"), choices=_choices(DOUBTS))
    guard_devices = forms.IntegerField(
        label=TENANT_LABELS["guard_devices"],
        help_text=_(
            "When one sync would newly deny more devices than this, and more than the percentage, the denials wait for "
            "approval. Devices are let in without waiting."
        ),
    )
    guard_percent = forms.FloatField(label=TENANT_LABELS["guard_percent"])
    guard_at_most = forms.IntegerField(
        required=False,
        label=TENANT_LABELS["guard_at_most"],
        help_text=_(
            "In a large organization the percentage is many people: more devices than this always wait. Empty: no "
            "such limit."
        ),
    )

    def __init__(self, data: QueryDict | None = None, *, values: TenantPolicyValues) -> None:
        self._values = values
        names = [name for name in self.base_fields if hasattr(values, name)]
        initial = {name: getattr(values, name) for name in names}
        initial["target"] = EVERYONE if values.target_everyone else GROUPS
        super().__init__(data, initial=initial)

    def to_values(self) -> TenantPolicyValues:
        """What was entered; only of a form that is valid."""
        given = {name: self.cleaned_data[name] for name in self.fields if hasattr(self._values, name)}
        return replace(self._values, **given, target_everyone=self.cleaned_data["target"] == EVERYONE)

    def chosen(self, name: str) -> list[GroupRef]:
        """The groups of a field as they are shown: entered ones first of all, else those of the policy."""
        return list(GroupsField().to_python(self[name].value()))


class OrganizationPolicyForm(forms.Form):
    """Advanced Exchange ActiveSync access settings of an organization. The rules are rows beside it (RuleRows)."""

    default_level = forms.ChoiceField(
        required=False,
        label=_("Default access level"),
        choices=[(NOT_MANAGED, _("Do not manage: leave it as it is in Exchange")), *_choices(LEVELS)],
        widget=forms.RadioSelect,
        help_text=_("What Exchange does with a device that no rule and no personal entry speaks about."),
    )
    denial = forms.ChoiceField(
        label=_("What a denied device meets"),
        choices=[
            (facts.Level.QUARANTINE.value, _("Quarantine, where Exchange offers the choice")),
            (facts.Level.BLOCK.value, _("Always block")),
        ],
        widget=forms.RadioSelect,
        help_text=_(
            "A quarantined device shows its person why, and comes back by itself. It can be had only where the default "
            "access level or a rule quarantines; elsewhere a denied device is blocked."
        ),
    )
    manage_insert = forms.BooleanField(required=False, label=_("Set this text in Exchange"))
    user_mail_insert = forms.CharField(
        required=False,
        strip=True,
        label=_("Text added to Exchange's quarantine mail"),
        widget=forms.Textarea(attrs={"rows": 3, "data-limit": "256"}),
        help_text=_("Exchange puts it into the mail that it sends to a quarantined person by itself: 256 characters."),
    )
    manage_recipients = forms.BooleanField(required=False, label=_("Set these recipients in Exchange"))
    admin_mail_recipients = forms.CharField(
        required=False,
        label=_("Administrator mail recipients"),
        widget=forms.Textarea(attrs={"rows": 3, "spellcheck": "false"}),
        help_text=_("Exchange tells them of each quarantined device. One address in each line."),
    )

    def __init__(self, data: QueryDict | None = None, *, values: OrganizationPolicyValues) -> None:
        self._values = values
        initial = {
            "default_level": values.default_level or NOT_MANAGED,
            "denial": values.denial,
            "manage_insert": values.user_mail_insert is not None,
            "user_mail_insert": values.user_mail_insert or "",
            "manage_recipients": values.admin_mail_recipients is not None,
            "admin_mail_recipients": "\n".join(values.admin_mail_recipients or ()),
        }
        super().__init__(data, initial=initial)

    def to_values(self, rules: Iterable[RuleValues]) -> OrganizationPolicyValues:
        """What was entered; only of a form that is valid. Devices that were kept when the default level was tightened
        are kept only while it stays what it was."""
        given = self.cleaned_data
        default_level = given["default_level"] or None
        kept = self._values.grandfathering if default_level == self._values.default_level else None
        recipients = tuple(line.strip() for line in given["admin_mail_recipients"].splitlines() if line.strip())
        return replace(
            self._values,
            default_level=default_level,
            denial=given["denial"],
            rules=tuple(rules),
            user_mail_insert=given["user_mail_insert"].replace("\r\n", "\n") if given["manage_insert"] else None,
            admin_mail_recipients=recipients if given["manage_recipients"] else None,
            grandfathering=kept,
        )


class RuleRows:
    """The device access rules of the form, as rows of three values that may still be wrong or empty."""

    def __init__(self, rows: Iterable[RuleValues]) -> None:
        self.rows = list(rows)

    @classmethod
    def of_data(cls, data: QueryDict) -> RuleRows:
        columns = (data.getlist("rule_characteristic"), data.getlist("rule_query"), data.getlist("rule_level"))
        return cls(RuleValues(one.strip(), query.strip(), level) for one, query, level in zip(*columns, strict=False))

    def entered(self) -> tuple[RuleValues, ...]:
        """Without rows whose value was left empty."""
        return tuple(row for row in self.rows if row.query)

    def remove(self, number: int) -> None:
        if 0 <= number < len(self.rows):
            del self.rows[number]

    def add(self, characteristic: str, query: str) -> None:
        """A row more; into one that is still empty where there is one."""
        empty = next((n for n, row in enumerate(self.rows) if not row.query), len(self.rows))
        self.rows[empty : empty + 1] = [RuleValues(characteristic, query, facts.Level.ALLOW)]

    def shown(self) -> list[RuleValues]:
        """With one row to fill in at the end."""
        last = RuleValues("DeviceType", "", facts.Level.ALLOW)
        return self.rows if self.rows and not self.rows[-1].query else [*self.rows, last]


class ReviewForm(forms.Form):
    """The step between a change and its saving."""

    reason = forms.CharField(
        label=_("Why"),
        max_length=2000,
        widget=forms.Textarea(attrs={"rows": 2}),
        help_text=_("Stands in the history beside your name."),
        error_messages={"required": _("Say why, for those who read the history later.")},
    )


class KeepForm(forms.Form):
    """Which devices keep their access when the default level is tightened, and until when."""

    keep_days = forms.IntegerField(
        label=_("Synced within the last (days)"),
        min_value=1,
        max_value=3650,
        initial=30,
        error_messages={
            "min_value": _("Enter a number of days from 1 to 3650."),
            "max_value": _("Enter a number of days from 1 to 3650."),
        },
    )
    keep_until = forms.DateField(
        label=_("Keep their access until"),
        widget=forms.DateInput(attrs={"type": "date"}, format="%Y-%m-%d"),
        error_messages={"invalid": _("Enter a day such as 2027-01-31.")},
    )


class NotificationForm(forms.Form):
    """User notification of an organization, with a template for each language."""

    enabled = forms.BooleanField(
        required=False,
        label=_("Tell people by mail when their device is denied"),
        help_text=_("Sent before the device is denied, so that it can still be read there."),
    )
    language = forms.ChoiceField(
        label=_("Language"), help_text=_("Of the mail to somebody whose own language is not known.")
    )
    enrollment_link = forms.CharField(
        required=False,
        label=_("Enrollment link"),
        widget=forms.TextInput(attrs={"inputmode": "url", "placeholder": "https://", "spellcheck": "false"}),
        help_text=_("Where people enroll their device."),
    )
    help_contact = forms.CharField(
        required=False, label=_("Help contact"), help_text=_("Such as the service desk's telephone number or address.")
    )
    repeat_days = forms.IntegerField(
        label=_("Not again before (days)"),
        help_text=_("About the same device nobody is told again before so many days."),
    )

    def __init__(self, data: QueryDict | None = None, *, values: NotificationValues) -> None:
        self._values = values
        initial: dict[str, Any] = {name: getattr(values, name) for name in self.base_fields}
        for language, _name in settings.LANGUAGES:
            template = values.templates.get(language, MailTemplateValues())
            initial |= {f"subject_{language}": template.subject, f"body_{language}": template.body}
        super().__init__(data, initial=initial)
        self.fields["language"].choices = settings.LANGUAGES  # type: ignore[attr-defined]
        for language, _name in settings.LANGUAGES:
            self.fields[f"subject_{language}"] = forms.CharField(required=False, label=_("Subject"))
            self.fields[f"body_{language}"] = forms.CharField(
                required=False, label=_("Text (Markdown)"), widget=forms.Textarea(attrs={"rows": 12, "lang": language})
            )

    def languages(self) -> list[tuple[str, str, forms.BoundField, forms.BoundField]]:
        """(code, name, subject, body) of each language, for the page."""
        return [(code, str(name), self[f"subject_{code}"], self[f"body_{code}"]) for code, name in settings.LANGUAGES]

    def plain_fields(self) -> list[forms.BoundField]:
        return [self[name] for name in self.base_fields]

    def to_values(self) -> NotificationValues:
        given = self.cleaned_data
        templates = {
            code: MailTemplateValues(given[f"subject_{code}"], given[f"body_{code}"].replace("\r\n", "\n"))
            for code, _name in settings.LANGUAGES
            if given[f"subject_{code}"] or given[f"body_{code}"]
        }
        return replace(self._values, **{name: given[name] for name in self.base_fields}, templates=templates)

    @staticmethod
    def names() -> dict[str, str]:
        """Names of fields by those that the checks use."""
        names = {f"notification.{name}": name for name in NotificationForm.base_fields}
        for code, _name in settings.LANGUAGES:
            names |= {f"{code}.subject": f"subject_{code}", f"{code}.body": f"body_{code}"}
        return names


class NotificationAccountForm(forms.Form):
    """By which account mails leave."""

    channel = forms.ChoiceField(
        label=_("Channel"),
        choices=NotificationAccount.Channel.choices,
        widget=forms.RadioSelect,
        help_text=_("None: nobody is told, whatever the user notification says."),
    )
    sender = forms.CharField(
        required=False,
        label=_("Sender"),
        widget=forms.EmailInput,
        help_text=_("The account's own (primary SMTP) address. With Exchange Web Services its mailbox keeps a copy."),
    )
    username = forms.CharField(
        required=False,
        label=_("Account"),
        widget=forms.TextInput(attrs={"autocomplete": "off", "spellcheck": "false"}),
        help_text=_("name@contoso.com or CONTOSO\\name. SMTP without sign-in: empty."),
    )
    password = forms.CharField(
        required=False,
        strip=False,
        label=_("Password"),
        widget=forms.PasswordInput(attrs={"autocomplete": "new-password"}, render_value=False),
    )
    authentication = forms.ChoiceField(
        required=False, label=_("Authentication"), choices=Authentication.choices, initial=Authentication.NTLM
    )
    ews_url = forms.CharField(
        required=False,
        label=_("EWS URL"),
        widget=forms.TextInput(attrs={"inputmode": "url", "spellcheck": "false"}),
        help_text=_("Such as https://mail.contoso.com/EWS/Exchange.asmx. Empty: found by Autodiscover."),
    )
    autodiscover_url = forms.CharField(
        required=False,
        label=_("Autodiscover URL"),
        widget=forms.TextInput(attrs={"inputmode": "url", "spellcheck": "false"}),
        help_text=_("Asked before the places that the sender's domain names. Empty: those alone."),
    )
    smtp_host = forms.CharField(
        required=False, label=_("SMTP host"), widget=forms.TextInput(attrs={"spellcheck": "false"})
    )
    smtp_port = forms.IntegerField(required=False, label=_("SMTP port"), initial=587)
    smtp_security = forms.ChoiceField(
        required=False, label=_("SMTP security"), choices=NotificationAccount.Security.choices
    )
    ca_certificates = forms.CharField(
        required=False,
        label=_("Certificates of your authority"),
        widget=forms.Textarea(attrs={"rows": 4, "spellcheck": "false"}),
        help_text=_("PEM text. Empty: the authorities that this machine trusts."),
    )

    EWS_FIELDS = ("authentication", "ews_url", "autodiscover_url")
    SMTP_FIELDS = ("smtp_host", "smtp_port", "smtp_security")

    def __init__(self, data: QueryDict | None = None, *, account: NotificationAccount) -> None:
        initial = {name: getattr(account, name) for name in self.base_fields if name != "password"}
        super().__init__(data, initial=initial)
        self.fields["password"].help_text = (
            _("One is stored; it is never shown. Empty: it stays.")
            if account.password
            else _("Stored encrypted, and never shown.")
        )

    def of(self, names: Sequence[str]) -> list[forms.BoundField]:
        return [self[name] for name in names]

    def common_fields(self) -> list[forms.BoundField]:
        return self.of(("sender", "username", "password"))

    def ews_fields(self) -> list[forms.BoundField]:
        return self.of(self.EWS_FIELDS)

    def smtp_fields(self) -> list[forms.BoundField]:
        return self.of(self.SMTP_FIELDS)

    def to_settings(self) -> NotificationAccountSettings:
        """What was entered; only of a form that is valid."""
        given = dict(self.cleaned_data)
        password = given.pop("password")
        given["smtp_port"] = 587 if given["smtp_port"] is None else given["smtp_port"]
        given["authentication"] = given["authentication"] or Authentication.NTLM
        given["smtp_security"] = given["smtp_security"] or NotificationAccount.Security.STARTTLS
        return NotificationAccountSettings(**given, password=Secret(password) if password else None)
