"""What reaches the queue, when, and what happens when there is none; over a real broker."""

from __future__ import annotations

import base64
import json
import socket
import time
from collections.abc import Iterator
from typing import Any

import kombu.pools
import pytest
import redis
from celery import current_app
from django.conf import settings as django_settings
from django.db import transaction

from connectors.actors import SETUP
from connectors.models import Connector
from sync import dispatch, tasks
from sync.dispatch import NOTIFY_TASK, RUN_TASK, queue_of, run_dispatch
from sync.models import SyncRun
from sync.recover import runs_recover
from sync.services import run_cancel, sync_request
from tests.connectors import factories
from tests.sync.worlds import codes, make_older

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def connector(transactional_db: None) -> Connector:
    made = factories.connector()
    Connector.objects.update(site="berlin")
    made.refresh_from_db()
    return made


@pytest.fixture(autouse=True)
def broker_database() -> Iterator[redis.Redis]:
    """The broker, emptied after each test."""
    client = redis.Redis.from_url(django_settings.REDIS_URL)
    yield client
    client.delete(_key("site.berlin"))


def _key(queue: str) -> str:
    return f"{django_settings.CELERY_BROKER_TRANSPORT_OPTIONS['global_keyprefix']}{queue}"


@pytest.fixture
def no_broker() -> Iterator[None]:
    """Nothing listens where the broker should be."""
    with broker_at("redis://127.0.0.1:1/0"):
        yield


class broker_at:
    """The broker's address, for a while."""

    def __init__(self, url: str) -> None:
        self.url, self.before = url, ""

    def __enter__(self) -> None:
        self.before = current_app.conf.broker_url
        self._set(self.url)

    def __exit__(self, *_: object) -> None:
        self._set(self.before)

    def _set(self, url: str) -> None:
        current_app.conf.update(broker_url=url, broker_write_url=url)
        # Celery keeps what it made of the old address in these.
        setattr(current_app, "_pool", None)  # noqa: B010
        setattr(current_app.amqp, "_producer_pool", None)  # noqa: B010
        kombu.pools.reset()


def waiting(queue: str) -> list[Any]:
    """(task, its arguments) of the messages in a queue; they are gone then."""
    client = redis.Redis.from_url(django_settings.REDIS_URL)
    found = []
    while (raw := client.lpop(_key(queue))) is not None:
        message = json.loads(raw)  # type: ignore[arg-type]
        found.append((message["headers"]["task"], json.loads(base64.b64decode(message["body"]))[0]))
    return found


def ask(connector: Connector) -> SyncRun:
    return sync_request(connector=connector, kind="fullSync", trigger="button", actor=SETUP).run


def test_a_run_goes_to_the_queue_of_its_site(connector: Connector) -> None:
    run = ask(connector)
    assert waiting("site.berlin") == [("sync.run", [run.pk])]
    run.refresh_from_db()
    assert run.dispatched_at is not None


def test_only_after_the_row_is_there_for_all(connector: Connector) -> None:
    with transaction.atomic():
        run = ask(connector)
        assert waiting("site.berlin") == []
    assert waiting("site.berlin") == [("sync.run", [run.pk])]


def test_never_for_what_was_rolled_back(connector: Connector) -> None:
    with transaction.atomic():
        ask(connector)
        transaction.set_rollback(True)
    assert waiting("site.berlin") == []
    assert not SyncRun.objects.exists()


def test_a_joined_request_sends_nothing(connector: Connector) -> None:
    ask(connector)
    ask(connector)
    assert len(waiting("site.berlin")) == 1


@pytest.mark.parametrize(("site", "queue"), [("default", "site.default"), ("berlin-2", "site.berlin-2")])
def test_queue_names(site: str, queue: str) -> None:
    assert queue_of(site) == queue


class TestWithoutABroker:
    def test_the_button_answers_at_once_and_the_story_tells(self, connector: Connector, no_broker: None) -> None:
        began = time.monotonic()
        run = ask(connector)
        assert time.monotonic() - began < 3
        run.refresh_from_db()
        assert (run.status, run.dispatched_at) == ("queued", None)
        assert codes(run) == ["requested", "queue_unreachable"]

    def test_told_once_however_often_it_is_tried(self, connector: Connector, no_broker: None) -> None:
        run = ask(connector)
        for _ in range(3):
            run_dispatch(run)
        assert codes(run).count("queue_unreachable") == 1

    def test_recovery_sends_it_when_the_broker_is_back(self, connector: Connector) -> None:
        with broker_at("redis://127.0.0.1:1/0"):
            run = ask(connector)
        make_older(run, 5)
        assert runs_recover() == 1
        assert waiting("site.berlin") == [("sync.run", [run.pk])]
        assert runs_recover() == 0

    def test_it_can_be_canceled_meanwhile(self, connector: Connector, no_broker: None) -> None:
        run = ask(connector)
        assert run_cancel(run=run, actor=SETUP)
        make_older(run, 500)
        assert runs_recover() == 0

    def test_a_broker_that_takes_the_connection_and_says_nothing(
        self, connector: Connector, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """As behind a firewall that drops packets: the socket's time limit ends it."""
        limits = {**current_app.conf.broker_transport_options, "socket_timeout": 0.2, "socket_connect_timeout": 0.2}
        monkeypatch.setitem(current_app.conf, "broker_transport_options", limits)
        with socket.create_server(("127.0.0.1", 0)) as silent:
            port = silent.getsockname()[1]
            began = time.monotonic()
            with broker_at(f"redis://127.0.0.1:{port}/0"):
                run = ask(connector)
            assert time.monotonic() - began < 10
        assert "queue_unreachable" in codes(run)


def test_the_brokers_time_limits_are_set() -> None:
    options: dict[str, Any] = django_settings.CELERY_BROKER_TRANSPORT_OPTIONS
    assert 0 < options["socket_connect_timeout"] <= options["socket_timeout"] <= 15


class TestTasks:
    def test_names_that_settings_and_queues_know(self) -> None:
        assert tasks.run.name == RUN_TASK
        scheduled = {entry["task"] for entry in django_settings.CELERY_BEAT_SCHEDULE.values()}
        known = {name for one in vars(tasks).values() if (name := getattr(one, "name", "")) in current_app.tasks}
        assert {tasks.recover_runs.name, tasks.dispatch_due.name, tasks.dispatch_notifications.name} <= scheduled
        assert scheduled <= known
        assert tasks.notify.name == NOTIFY_TASK

    def test_a_message_of_a_newer_version(self, connector: Connector, monkeypatch: pytest.MonkeyPatch) -> None:
        done: list[int] = []
        monkeypatch.setattr("sync.tasks.run_execute", done.append)
        tasks.run(7, priority="high")
        tasks.recover_runs(anything=1)
        tasks.dispatch_due(anything=1)
        assert done == [7]

    def test_a_repeated_message_does_nothing(self, connector: Connector, monkeypatch: pytest.MonkeyPatch) -> None:
        run = ask(connector)
        SyncRun.objects.update(status="succeeded")
        tasks.run(run.pk)
        run.refresh_from_db()
        assert (run.status, run.attempt) == ("succeeded", 0)

    def test_nothing_else_puts_work_on_the_queue(self) -> None:
        from pathlib import Path

        root = Path(dispatch.__file__).parents[1]
        sending = [
            str(path.relative_to(root))
            for package in ("console", "sync", "connectors")
            for path in (root / package).rglob("*.py")
            if any(word in path.read_text(encoding="utf-8") for word in ("send_task(", "apply_async(", ".delay("))
        ]
        assert sending == ["sync/dispatch.py"]
