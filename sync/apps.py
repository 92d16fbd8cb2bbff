from django.apps import AppConfig


class SyncConfig(AppConfig):
    name = "sync"

    def ready(self) -> None:
        from sync.acting import denials
        from sync.notifying import notify

        denials.listeners.append(notify.denials_noted)
