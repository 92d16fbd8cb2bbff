"""What all tests share: the broker of this test process. tests/environment.py sets what must be set earlier."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest
import redis
from django.conf import settings

from console.embedded import valkey_command
from console.runner.supervisor import CHILD
from tests.labs import fresh_lab, lab  # noqa: F401 - fixtures for all tests


def pytest_configure() -> None:
    # Hashing as slowly as the product does would be most of the time of tests that sign somebody in.
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]


@pytest.fixture(scope="session", autouse=True)
def broker() -> Iterator[str]:
    """The URL of a running Redis: that of REDIS_URL, or an embedded valkey of this process's own. Emptied first."""
    if not settings.REDIS_IS_EMBEDDED:
        redis.Redis.from_url(settings.REDIS_URL).flushdb()
        yield settings.REDIS_URL
        return
    # Behind the runner's guardian, so that it goes even when this process is killed.
    lifeline, held = os.pipe()
    process = subprocess.Popen(
        [sys.executable, str(CHILD), str(lifeline), *valkey_command(settings.HOME)],
        pass_fds=(lifeline,),
        stdout=subprocess.DEVNULL,
    )
    os.close(lifeline)
    try:
        _wait_until_it_answers(process)
        yield settings.REDIS_URL
    finally:
        process.terminate()
        process.wait(10)
        os.close(held)


def _wait_until_it_answers(process: subprocess.Popen[bytes]) -> None:
    client = redis.Redis.from_url(settings.REDIS_URL)
    end = time.monotonic() + 20
    while True:
        try:
            client.ping()
            return
        except redis.ConnectionError:
            if process.poll() is not None or time.monotonic() > end:
                raise
            time.sleep(0.02)
