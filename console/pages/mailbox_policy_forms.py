"""The form of a mailbox policy: a field for each setting that this Exchange shows, and back to values.

What it accepts is checked by the services (sync.mailbox_policy_values); here only what cannot be read is refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from django import forms
from django.http import QueryDict
from django.utils.translation import gettext_lazy as _

from connectors.exchange.policies import SETTINGS, Kind, PolicyValue
from sync.policies.mailbox_policy_values import CHOICES, NAME_LENGTH, NUMBERS, TEXT_LENGTH
from sync.policies.mailbox_policy_words import GROUPS, HELP, LABELS, choice_said, remote_name


@dataclass(frozen=True, slots=True)
class Part:
    """One field with Exchange's own name of it."""

    field: forms.BoundField
    remote: str


class MailboxPolicyForm(forms.Form):
    """settings: what the form starts from; there is a field for each of them, where its value can be read."""

    name = forms.CharField(
        label=_("Name"),
        max_length=NAME_LENGTH,
        widget=forms.TextInput(attrs={"autocomplete": "off", "spellcheck": "false"}),
    )

    def __init__(
        self, data: QueryDict | None = None, *, name: str, settings: Mapping[str, PolicyValue], version: str
    ) -> None:
        self._version = version
        fields = {key: field for key, value in settings.items() if (field := _field(key, value)) is not None}
        initial: dict[str, Any] = {key: _shown(settings[key]) for key in fields}
        super().__init__(data, initial={"name": name, **initial})
        self.fields.update(fields)

    def groups(self) -> list[tuple[str, list[Part]]]:
        """The fields as the pages group them."""
        found = []
        for title, names in GROUPS:
            parts = [
                Part(self[name], remote_name(name, version=self._version)) for name in names if name in self.fields
            ]
            if parts:
                found.append((str(title), parts))
        return found

    def to_settings(self) -> dict[str, PolicyValue]:
        """What was entered; only of a form that is valid."""
        found: dict[str, PolicyValue] = {}
        for name, kind in SETTINGS.items():
            if name in self.fields:
                value = self.cleaned_data[name]
                found[name] = tuple(value.splitlines()) if kind is Kind.LIST else value
        return found


def _shown(value: PolicyValue) -> Any:
    return "\n".join(value) if isinstance(value, tuple) else value


def _field(name: str, value: PolicyValue) -> forms.Field | None:
    """None for a value that is not of the setting's kind: what cannot be read is not offered for changing."""
    kind = SETTINGS[name]
    named: dict[str, Any] = {"label": LABELS[name], "help_text": HELP.get(name, "")}
    if kind is Kind.FLAG:
        return forms.BooleanField(required=False, **named) if isinstance(value, bool) else None
    if kind is Kind.NUMBER:
        smallest, largest = NUMBERS[name]
        if isinstance(value, bool) or not isinstance(value, int):
            return None
        return forms.IntegerField(widget=forms.NumberInput(attrs={"min": smallest, "max": largest}), **named)
    if kind is Kind.LIST:
        return forms.CharField(required=False, widget=forms.Textarea(attrs={"rows": 3, "spellcheck": "false"}), **named)
    if name in CHOICES:
        known = [*CHOICES[name]]
        if isinstance(value, str) and value not in known:
            known.append(value)  # of a newer Exchange
        return forms.ChoiceField(choices=[(one, choice_said(one)) for one in known], **named)
    return forms.CharField(
        max_length=TEXT_LENGTH, widget=forms.TextInput(attrs={"autocomplete": "off", "spellcheck": "false"}), **named
    )
