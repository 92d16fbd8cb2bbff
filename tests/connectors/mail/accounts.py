"""Mail accounts of the lab's organisations, and messages to send by them."""

from __future__ import annotations

from typing import Any

from connectors.mail.client import MailAccount, MailOptions, Message, new_message_id
from tests.labs import Lab, Organization


def options(lab: Lab, **changes: Any) -> MailOptions:
    values: dict[str, Any] = {"ca_file": lab.ca, "connect_timeout": 5.0, "read_timeout": 10.0}
    return MailOptions(**(values | changes))


def ews_account(organization: Organization, **changes: Any) -> MailAccount:
    account, server = organization.account("notification"), organization.servers[0]
    values: dict[str, Any] = {
        "kind": "ews", "sender": account.upn, "username": account.user, "password": account.password,
        "ews_url": f"https://127.0.0.1:{server.https_port}/EWS/Exchange.asmx",
    }  # fmt: skip
    return MailAccount(**(values | changes))


def smtp_account(organization: Organization, **changes: Any) -> MailAccount:
    account, smtp = organization.account("notification"), organization.row["smtp"]
    values: dict[str, Any] = {
        "kind": "smtp", "sender": account.upn, "username": account.user, "password": account.password,
        "sender_name": "Geräte-Hinweise 裝置", "smtp_host": smtp["fqdn"], "smtp_port": smtp["port"],
        "address": smtp["host"],
    }  # fmt: skip
    return MailAccount(**(values | changes))


def message(to: str, **changes: str) -> Message:
    values = {
        "to": to, "subject": "請註冊 your phone", "html": "<p>Zoë’s 📱 <a href='https://enrol.test/x'>link</a></p>",
        "text": "Zoë’s 📱 https://enrol.test/x\n.dot\n", "message_id": new_message_id(to),
    }  # fmt: skip
    return Message(**(values | changes))
