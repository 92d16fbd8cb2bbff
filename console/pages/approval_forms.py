"""The form that decides about denials that wait."""

from __future__ import annotations

from typing import Any

from django import forms
from django.utils.translation import gettext_lazy as _

DECISIONS = ("approve", "approve_except", "reject", "raise")


class DecisionForm(forms.Form):
    """decision comes from the button that was pressed; seen from the page that was looked at. limit: in force."""

    decision = forms.ChoiceField(choices=[(decision, decision) for decision in DECISIONS])
    seen = forms.CharField(max_length=64)
    note = forms.CharField(
        label=_("Note"),
        required=False,
        max_length=1000,
        widget=forms.Textarea(attrs={"rows": 2}),
        help_text=_("Optional. Stands beside your name in the history of the approval and of each device."),
    )
    to = forms.IntegerField(label=_("Raise the limit to"), required=False, min_value=1, max_value=1_000_000)

    def __init__(self, *args: Any, limit: int, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["to"].help_text = _(
            "Devices, for the next run alone; the limit in force is %(limit)d. The run denies up to so many at once."
        ) % {"limit": limit}

    def clean(self) -> dict[str, Any]:
        cleaned: dict[str, Any] = super().clean() or {}
        if cleaned.get("decision") == "raise" and cleaned.get("to") is None and "to" not in self.errors:
            self.add_error("to", _("Enter how many devices the next run may deny."))
        return cleaned
