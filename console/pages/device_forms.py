"""Forms about single devices. What they accept is checked again by the services."""

from __future__ import annotations

import datetime
import zoneinfo
from typing import Any

from django import forms
from django.core.exceptions import ValidationError
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from sync.deciding.facts import id_key
from sync.policies.overrides import REASON_LENGTH

DATE, NEVER = "date", "never"
EXPIRIES = (
    ("1", _("In 1 day")),
    ("7", _("In 7 days")),
    ("30", _("In 30 days")),
    (NEVER, _("No end: until somebody takes it back")),
    (DATE, _("At the end of this day:")),
)
_WHY = _("Stands in the device's history beside your name.")


def reason_field(**values: Any) -> forms.CharField:
    """Why somebody does something about a device."""
    return forms.CharField(
        label=_("Why"),
        max_length=REASON_LENGTH,
        widget=forms.Textarea(attrs={"rows": 2}),
        help_text=_WHY,
        error_messages={"required": _("Say why, for those who come after you.")},
        **values,
    )


class ChoiceForm(forms.Form):
    """What is to become of an entry that somebody else made."""

    choice = forms.ChoiceField(
        label=_("What becomes of it"),
        widget=forms.RadioSelect,
        choices=(
            ("adopt", _("Adopt: the entry decides about the device, stays, and alarms nobody")),
            ("override", _("Override: the verdict counts, and the entry is removed where it stands in its way")),
        ),
        error_messages={"required": _("Choose one of the two.")},
    )
    reason = reason_field()


class OverrideForm(forms.Form):
    """Why, and until when. zone: in which a chosen day ends."""

    reason = reason_field()
    expiry = forms.ChoiceField(label=_("Ends"), choices=EXPIRIES, initial="7", widget=forms.RadioSelect)
    day = forms.DateField(
        label=_("Last day"), required=False, widget=forms.DateInput(attrs={"type": "date"}, format="%Y-%m-%d")
    )

    def __init__(self, *args: Any, zone: str = "UTC", **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.zone = zone
        self.fields["day"].help_text = _("Only when chosen above. In the time zone %(zone)s.") % {"zone": zone}

    def clean(self) -> dict[str, Any]:
        cleaned: dict[str, Any] = super().clean() or {}
        if cleaned.get("expiry") == DATE and not cleaned.get("day") and "day" not in self.errors:
            self.add_error("day", ValidationError(_("Choose the last day on which it is to hold.")))
        return cleaned

    def expires_at(self) -> datetime.datetime | None:
        """Of a valid form."""
        expiry = self.cleaned_data["expiry"]
        if expiry == NEVER:
            return None
        if expiry == DATE:
            day: datetime.date = self.cleaned_data["day"]
            following = day + datetime.timedelta(days=1)
            return datetime.datetime.combine(following, datetime.time(), zoneinfo.ZoneInfo(self.zone))
        return timezone.now() + datetime.timedelta(days=int(expiry))


class TypedForm(forms.Form):
    """A destructive act: the device's ID is typed, and a key makes that a form sent twice is one act."""

    typed = forms.CharField(
        label=_("Type the device ID to confirm"),
        max_length=300,
        widget=forms.TextInput(attrs={"autocomplete": "off", "spellcheck": "false", "autocapitalize": "off"}),
        error_messages={"required": _("Type the device ID exactly as it stands above.")},
    )
    key = forms.CharField(max_length=80, widget=forms.HiddenInput)

    def __init__(self, *args: Any, device_id: str, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.device_id = device_id

    def clean_typed(self) -> str:
        typed: str = self.cleaned_data["typed"]
        if id_key(typed) != id_key(self.device_id):
            raise ValidationError(_("That is not the ID of this device. Nothing was done."))
        return typed


class WipeForm(TypedForm):
    notify = forms.EmailField(
        label=_("Mail when it is done"),
        required=False,
        help_text=_("Optional. Exchange tells the person in any case, and this address too."),
    )


class RemoveForm(TypedForm):
    clear_foreign = forms.BooleanField(
        label=_("Also clear entries that somebody else made"),
        required=False,
        initial=True,
        help_text=_(
            "The device ID goes off both of the mailbox's lists. An entry that stays on the allowed list would let the "
            "phone in again as soon as it comes back."
        ),
    )
