"""An address of EWS that Autodiscover named before: the search is spared, and done again where nothing is there."""

from __future__ import annotations

from typing import Any

import pytest

from connectors.mail.client import MailAccount
from connectors.mail.errors import MailError
from connectors.mail.opening import open_mailer
from tests.connectors.mail.accounts import ews_account, message, options
from tests.labs import Lab

pytestmark = pytest.mark.wire


def known(lab: Lab, url: str, **changes: Any) -> MailAccount:
    """An account for which Autodiscover named `url` some time ago, and can be asked."""
    organization = lab.organization("SE")
    port = organization.servers[0].https_port
    asked = {"ews_url": "", "autodiscover_url": f"https://127.0.0.1:{port}", "known_ews_url": url}
    return ews_account(organization, **{**asked, **changes})


def requests(lab: Lab) -> int:
    """All so far, of the servers."""
    servers = lab.call("GET", "")["servers"]
    return sum(int(servers[one.fqdn]["requests"]) for one in lab.organization("SE").servers)


def test_what_was_found_before_spares_the_search(lab: Lab) -> None:
    organization = lab.organization("SE")
    now = f"https://127.0.0.1:{organization.servers[0].https_port}/EWS/Exchange.asmx"
    nowhere = known(lab, now, autodiscover_url="https://127.0.0.1:1")  # whoever asked would get no answer
    with open_mailer(nowhere, options(lab)) as mailer:
        assert mailer.ews_url == now
        mailer.send(message(str(organization.mailboxes()[0]["smtp"])))


@pytest.mark.parametrize("old", ["https://127.0.0.1:1/EWS/Exchange.asmx", "https://127.0.0.1:{port}/owa/"])
def test_where_nothing_usable_answers_any_more_it_is_asked_again_and_the_mail_leaves(lab: Lab, old: str) -> None:
    organization = lab.organization("SE")
    port = organization.servers[0].https_port
    to = str(organization.mailboxes()[1]["smtp"])
    mails = [message(to), message(to)]
    with open_mailer(known(lab, old.format(port=port)), options(lab)) as mailer:
        for mail in mails:
            mailer.send(mail)
            assert mailer.find_sent(mail.message_id)
        assert mailer.ews_url == f"https://127.0.0.1:{port}/EWS/Exchange.asmx"
    arrived = [one["message_id"] for one in organization.messages(to)]
    assert [arrived.count(mail.message_id) for mail in mails] == [1, 1]
    with open_mailer(known(lab, old.format(port=port)), options(lab)) as mailer:
        checks = mailer.verify()
    assert [(check.name, check.is_ok) for check in checks] == [
        ("address", True), ("connection", True), ("sign_in", True), ("sender", True),
    ]  # fmt: skip
    assert checks[0].detail == f"https://127.0.0.1:{port}/EWS/Exchange.asmx"


def test_where_nobody_knows_better_the_failure_stays_what_it_was(lab: Lab) -> None:
    old = "https://127.0.0.1:1/EWS/Exchange.asmx"
    for account in (known(lab, old, autodiscover_url=old), ews_account(lab.organization("SE"), ews_url=old)):
        with open_mailer(account, options(lab)) as mailer, pytest.raises(MailError) as caught:
            mailer.send(message("a@b.test"))
        assert (caught.value.code, mailer.ews_url) == ("mail_unreachable", old)


def test_a_refused_password_is_no_reason_to_ask_again(lab: Lab) -> None:
    organization = lab.organization("SE")
    now = f"https://127.0.0.1:{organization.servers[0].https_port}/EWS/Exchange.asmx"
    before = requests(lab)
    with open_mailer(known(lab, now, password="wrong"), options(lab)) as mailer, pytest.raises(MailError) as caught:
        mailer.send(message("a@b.test"))
    assert caught.value.code == "mail_sign_in_failed"
    assert requests(lab) - before == 3  # those of one sign-in by NTLM
