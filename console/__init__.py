"""What people and programs see: pages, API, sign-in. Also the Django project itself."""

from console.celery import app as celery_app

__all__ = ["celery_app"]
