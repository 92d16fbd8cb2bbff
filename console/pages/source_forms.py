"""Forms of device records' sources, of API tokens and of uploads. What they accept is checked by the services."""

from __future__ import annotations

import datetime
import zoneinfo
from typing import Any

from django import forms
from django.core.exceptions import ValidationError
from django.utils.translation import gettext_lazy as _

from connectors.graph.clouds import CLOUDS
from connectors.models import DeviceSource
from connectors.secrets import Secret, SecretFormField
from connectors.sources import SourceSettings
from console.accounts.models import Role

CLOUD_NAMES = {
    "global": _("Microsoft cloud, US GCC too"),
    "usGovL4": _("US Government GCC High (L4)"),
    "usGovL5": _("US Government DoD (L5)"),
    "china": _("China, operated by 21Vianet"),
}
_DAY = {"type": "date"}


class SourceForm(forms.Form):
    """Choose the source; for Microsoft Graph, how it is reached. Secrets are never shown, and kept when left empty."""

    kind = forms.ChoiceField(
        label=_("Source"),
        choices=[
            (DeviceSource.Kind.GRAPH, _("Microsoft Graph: records of Intune, people and groups of the directory")),
            (DeviceSource.Kind.PUSHED, _("Pushed by another system: by the API, or imported from CSV files")),
            (DeviceSource.Kind.NONE, _("None: nothing is learned about devices")),
        ],
        widget=forms.RadioSelect,
    )
    directory_id = forms.CharField(
        label=_("Directory (tenant) ID"),
        required=False,
        max_length=190,
        help_text=_("The GUID of the directory, or one of its domain names."),
    )
    client_id = forms.CharField(
        label=_("Application (client) ID"),
        required=False,
        max_length=64,
        help_text=_(
            "An app registration with these application permissions, granted by an administrator: "
            "DeviceManagementManagedDevices.Read.All, User.Read.All, GroupMember.Read.All."
        ),
    )
    credential = forms.ChoiceField(
        label=_("Signs in with"), choices=DeviceSource.Credential.choices, widget=forms.RadioSelect, required=False
    )
    client_secret = SecretFormField(label=_("Client secret"), required=False, max_length=512)
    secret_expires_on = forms.DateField(
        label=_("The secret ends on"),
        required=False,
        widget=forms.DateInput(attrs=_DAY),
        help_text=_("As the directory said when the secret was made. You are warned here 30 days before."),
    )
    certificate = SecretFormField(
        label=_("Certificate with private key"),
        required=False,
        max_length=50_000,
        widget=forms.Textarea(attrs={"rows": 6, "spellcheck": "false", "autocomplete": "off", "class": "fixed"}),
    )
    cloud = forms.ChoiceField(label=_("Cloud"), required=False)
    login_root = forms.CharField(label=_("Sign-in address"), required=False, max_length=255)
    graph_root = forms.CharField(
        label=_("Graph address"),
        required=False,
        max_length=255,
        help_text=_("Leave both addresses empty to use the cloud's own."),
    )

    def __init__(self, *args: Any, source: DeviceSource, **kwargs: Any) -> None:
        self._zone = zoneinfo.ZoneInfo(source.tenant.time_zone)
        expires = source.credential_expires_at
        kwargs["initial"] = {
            "kind": source.kind,
            "directory_id": source.directory_id,
            "client_id": source.client_id,
            "credential": source.credential,
            "secret_expires_on": expires.astimezone(self._zone).date() if expires else None,
            "cloud": source.cloud or "global",
            "login_root": source.login_root,
            "graph_root": source.graph_root,
        }
        super().__init__(*args, **kwargs)
        self.fields["cloud"].choices = [(name, CLOUD_NAMES.get(name, name)) for name in CLOUDS]  # type: ignore[attr-defined]
        kept = _("One is stored. Leave this empty to keep it.")
        self.fields["client_secret"].help_text = (
            kept if source.client_secret else _("The column “Value” of the secret, not its ID.")
        )
        self.fields["certificate"].help_text = (
            kept if source.certificate else _("PEM text: the RSA private key without a password, and its certificate.")
        )
        if source.credential == DeviceSource.Credential.CERTIFICATE:
            self.initial["secret_expires_on"] = None

    def to_settings(self) -> SourceSettings:
        data = self.cleaned_data
        ends: datetime.date | None = data["secret_expires_on"]
        return SourceSettings(
            kind=data["kind"],
            cloud=data["cloud"] or "global",
            directory_id=data["directory_id"],
            client_id=data["client_id"],
            credential=data["credential"] or DeviceSource.Credential.SECRET,
            client_secret=Secret(data["client_secret"] or ""),
            certificate=Secret(data["certificate"] or ""),
            secret_expires_at=end_of(ends, self._zone) if ends else None,
            login_root=data["login_root"],
            graph_root=data["graph_root"],
        )

    def problems_add(self, error: ValidationError) -> None:
        """What the service refused, at the fields it is about."""
        names = {"secret_expires_at": "secret_expires_on"}
        for name, errors in error.error_dict.items():
            field = names.get(name, name)
            self.add_error(field if field in self.fields else None, errors)


def end_of(day: datetime.date, zone: zoneinfo.ZoneInfo) -> datetime.datetime:
    """The last second of a day in a time zone."""
    return datetime.datetime.combine(day, datetime.time(23, 59, 59), tzinfo=zone)


class TokenForm(forms.Form):
    """A new API token."""

    name = forms.CharField(label=_("Name"), max_length=100, help_text=_("What uses it, such as “MobileIron push”."))
    role = forms.ChoiceField(
        label=_("Role"),
        choices=[
            (Role.OPERATOR, _("Operator: reads, pushes records, starts syncs")),
            (Role.READER, _("Reader: reads")),
            (Role.ADMINISTRATOR, _("Administrator: everything in this tenant")),
        ],
        initial=Role.OPERATOR,
    )
    expires_on = forms.DateField(
        label=_("Ends on"),
        required=False,
        widget=forms.DateInput(attrs=_DAY),
        help_text=_("The last day on which it works. Empty: until it is revoked."),
    )


class UploadForm(forms.Form):
    """A CSV file."""

    file = forms.FileField(
        label=_("CSV file"),
        allow_empty_file=True,
        widget=forms.FileInput(attrs={"accept": ".csv,text/csv,text/plain"}),
        error_messages={"required": _("Choose a file first.")},
    )
