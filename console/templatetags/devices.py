"""How a device's owner is called."""

from __future__ import annotations

from django import template

from sync.models import MobileDevice

register = template.Library()


@register.filter
def person_name(device: MobileDevice) -> str:
    """The person's name without the path before it: Exchange gives it as a canonical name, contoso.lab/Users/Ada."""
    name = device.user_display_name or device.mailbox
    # A slash that belongs to the name is escaped in a canonical name.
    return name.replace("\\/", "\0").rsplit("/", 1)[-1].replace("\0", "/")
