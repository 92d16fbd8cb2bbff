"""`manage.py prepare`: bring the database up to date and make the first administrator. Safe to run at every start."""

from __future__ import annotations

from typing import Any

from django.core.management import call_command
from django.core.management.base import BaseCommand

from console.accounts.first_admin import NAME, first_admin_create


class Command(BaseCommand):
    help = "Migrate the database and make the first administrator; what containers run before anything else."

    def handle(self, *args: Any, **options: Any) -> None:
        call_command("migrate", verbosity=1, interactive=False)
        password = first_admin_create()
        if password:
            self.stdout.write(f"Administrator: {NAME}   password: {password}")
