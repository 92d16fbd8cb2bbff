"""The signed-in person as the actor that services ask for."""

from __future__ import annotations

from typing import Any

from connectors.actors import Actor


def actor_of(user: Any) -> Actor:
    """`user`: an authenticated User. Named as people know them."""
    return Actor(name=user.get_full_name() or user.get_username(), user_id=user.pk)
