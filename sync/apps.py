from django.apps import AppConfig


class SyncConfig(AppConfig):
    name = "sync"

    def ready(self) -> None:
        from sync import denials, notify

        denials.listeners.append(notify.denials_noted)
