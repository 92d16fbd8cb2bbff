"""How a device's owner is called."""

from __future__ import annotations

from django import template

from sync.models import MobileDevice, devices

register = template.Library()


@register.filter
def person_name(device: MobileDevice) -> str:
    """The person's name without the path before it."""
    return devices.person_name(device.user_display_name, device.mailbox)
