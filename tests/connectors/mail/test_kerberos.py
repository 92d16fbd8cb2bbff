"""EWS by Kerberos against the lab with a KDC on loopback, where the machine has what that takes.

Runs in a process of its own: the Kerberos library reads its settings from the environment, once.
"""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest

from tests.connectors.exchange import kdc
from tests.labs import ROOT, Lab, environment_without_proxies

pytestmark = [pytest.mark.kerberos, pytest.mark.wire]

PROGRAM = """
import json, sys
from connectors.mail.client import MailAccount, MailOptions, Message, new_message_id
from connectors.mail.errors import MailError
from connectors.mail.opening import open_mailer

given = json.load(sys.stdin)
results = {}
for name, changes in given["accounts"].items():
    account = MailAccount(**(given["account"] | changes))
    to = given["to"]
    try:
        with open_mailer(account, MailOptions(ca_file=given["ca"], connect_timeout=5, read_timeout=10)) as mailer:
            for _ in range(2):
                mailer.send(Message(to, name, "<p>x</p>", "x", new_message_id(to)))
            results[name] = [check.is_ok for check in mailer.verify()]
    except MailError as error:
        results[name] = error.code
json.dump(results, sys.stdout)
"""


def test_kerberos(fresh_lab: Callable[..., Lab]) -> None:
    if lacking := kdc.missing():
        pytest.skip(lacking)
    if importlib.util.find_spec("requests_gssapi") is None:
        pytest.skip("requests_gssapi is not installed (requirements/kerberos.txt)")
    lab = fresh_lab("name=K,version=2016,devices=5,domain=k.test", kerberos=True)
    organization = lab.organization("K")
    notify, server = organization.account("notification"), organization.servers[0]
    to = organization.mailboxes()[0]["smtp"]
    given: dict[str, Any] = {
        "ca": lab.ca,
        "to": to,
        "account": {
            "kind": "ews", "sender": notify.upn, "username": notify.upn, "password": notify.password,
            "authentication": "kerberos", "address": "127.0.0.1",
            "ews_url": f"https://{server.fqdn}:{server.https_port}/EWS/Exchange.asmx",
        },
        "accounts": {
            "right": {},
            "wrong password": {"password": "wrong"},
            "nobody": {"username": "nobody@k.test"},
            "no ticket": {"password": ""},
            "another realm": {"username": "notify@elsewhere.test"},
            "a server without a service name": {
                "ews_url": f"https://autodiscover.k.test:{server.https_port}/EWS/Exchange.asmx"
            },
        },
    }  # fmt: skip
    environment = environment_without_proxies() | {
        "KRB5_CONFIG": lab.state["kerberos"]["config"],
        "KRB5CCNAME": f"FILE:{lab.home / 'no-tickets'}",
        "PYTHONPATH": os.fspath(ROOT),
    }
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], input=json.dumps(given), capture_output=True, text=True, cwd=ROOT,
        env=environment, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {
        "right": [True, True, True, True],
        "wrong password": "mail_sign_in_failed",
        "nobody": "mail_sign_in_failed",
        "no ticket": "mail_kerberos_failed",
        "another realm": "mail_kerberos_failed",
        "a server without a service name": "mail_kerberos_failed",
    }
    assert [one["subject"] for one in organization.messages(to)].count("right") == 2
