"""People and the tenants they may see."""

from __future__ import annotations

import uuid

from django.contrib.auth.models import AbstractUser
from django.db import models
from django.utils.translation import gettext_lazy as _


class User(AbstractUser):
    """A person who signs in. A superuser sees every tenant; anyone else sees those of their memberships."""

    public_id = models.UUIDField(default=uuid.uuid4, unique=True, editable=False)
    language = models.CharField(max_length=10, blank=True, help_text="BCP 47 tag; empty follows the browser.")


class Role(models.TextChoices):
    """What a person may do in one tenant; what each role allows stands in permissions.py alone."""

    ADMINISTRATOR = "administrator", _("Administrator")
    OPERATOR = "operator", _("Operator")
    READER = "reader", _("Reader")


class Membership(models.Model):
    """One person's role in one tenant."""

    user = models.ForeignKey(User, on_delete=models.CASCADE, related_name="memberships")
    tenant = models.ForeignKey("connectors.Tenant", on_delete=models.CASCADE, related_name="memberships")
    role = models.CharField(max_length=20, choices=Role.choices, default=Role.READER)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["user", "tenant"], name="one_role_a_person_and_tenant")]

    def __str__(self) -> str:
        return f"{self.user} · {self.tenant} · {self.role}"


class ApiToken(models.Model):
    """A program's key to one tenant. Shown once when it is made; only its digest is kept."""

    public_id = models.UUIDField(default=uuid.uuid4, unique=True, editable=False)
    tenant = models.ForeignKey("connectors.Tenant", on_delete=models.CASCADE, related_name="api_tokens")
    name = models.CharField(max_length=100)
    # SHA-256 of the whole token: it has 256 random bits, so nothing slower is needed.
    digest = models.BinaryField(max_length=32, unique=True)
    hint = models.CharField(max_length=16, help_text="The first characters, to recognise it by.")
    role = models.CharField(max_length=20, choices=Role.choices, default=Role.OPERATOR)
    made_at = models.DateTimeField(auto_now_add=True)
    made_by = models.ForeignKey(User, null=True, blank=True, on_delete=models.SET_NULL, related_name="+")
    made_by_name = models.CharField(max_length=200)
    expires_at = models.DateTimeField(null=True, blank=True)
    last_used_at = models.DateTimeField(null=True, blank=True)
    revoked_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["name"]

    def __str__(self) -> str:
        return f"{self.name} · {self.tenant}"
