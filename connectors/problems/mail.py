"""Entries for notification mail: the account, the servers it is sent by, and single mails that are not taken."""

from __future__ import annotations

from collections.abc import Mapping

from django.utils.translation import gettext_lazy as _

from connectors.problems.entry import Problem

_TRIED_AGAIN = _("Syncs go on; no phone's access depends on mail. The mail stays in the queue and is tried again.")
_WAITING = _(
    "Syncs go on; no phone's access depends on mail. Mails wait in the queue until the account works again, and a "
    "password that was refused is not tried once more."
)
_THIS_ONE = _("Syncs go on, and other mails are sent. This one is marked as failed, with the reason.")

PROBLEMS: Mapping[str, Problem] = {
    "mail_unreachable": Problem(
        title=_("The mail server cannot be reached"),
        happened=_("No connection to %(mail_server)s came about, or it broke off before the mail was sent."),
        kept=_TRIED_AGAIN,
        remedy=_(
            "Check name and port on the notification page, and that the machine that runs the workers may connect "
            "there (443 for Exchange Web Services, 587, 465 or 25 for SMTP). The test mail shows each step."
        ),
    ),
    "mail_server_busy": Problem(
        title=_("The mail server asks us to wait"),
        happened=_("%(mail_server)s takes no mail at the moment, because it is busy or a quota is used up."),
        kept=_TRIED_AGAIN,
        remedy=_(
            "Nothing needs doing when it is rare. If it lasts, look at the throttling policy of the account "
            "(Get-ThrottlingPolicy; MessageRateLimit and RecipientRateLimit) or at the limits of the receive connector."
        ),
    ),
    "mail_server_failed": Problem(
        title=_("The mail server failed"),
        happened=_("%(mail_server)s answered with a failure of its own."),
        kept=_TRIED_AGAIN,
        remedy=_(
            "See whether the mailbox database of the account is mounted and its server healthy (Get-MailboxDatabase "
            "-Status, Test-ServiceHealth). A mailbox that is being moved looks the same until the move is done."
        ),
    ),
    "mail_deferred": Problem(
        title=_("The mail server wants the mail later"),
        happened=_("%(mail_server)s did not take the mail for this recipient yet."),
        kept=_TRIED_AGAIN,
        remedy=_("Nothing needs doing: servers that know the sender not yet answer so the first time."),
    ),
    "mail_recipient_refused": Problem(
        title=_("The recipient's address is refused"),
        happened=_("%(mail_server)s does not take mail for this address."),
        kept=_THIS_ONE,
        remedy=_(
            "Check the person's primary SMTP address in Exchange, and whether the mailbox still exists. The device's "
            "page shows the address that was used."
        ),
    ),
    "mail_message_refused": Problem(
        title=_("The mail is refused"),
        happened=_("%(mail_server)s knows the recipient, and does not take this mail."),
        kept=_THIS_ONE,
        remedy=_(
            "The server's own words say why: mostly size or a content filter. Shorten the template, or let the filter "
            "pass mails of the notification account."
        ),
    ),
    "mail_outcome_unknown": Problem(
        title=_("The mail may have been sent"),
        happened=_("%(mail_server)s was given the mail, and its answer did not arrive."),
        kept=_(
            "Syncs go on; no phone's access depends on mail. With Exchange Web Services the Sent Items are searched "
            "for it before it is sent again; with SMTP it is sent again, and may come twice at most."
        ),
        remedy=_(
            "Nothing needs doing when it is rare. If it comes often, look for a time limit in the load balancer or "
            "firewall between here and the server."
        ),
    ),
    "mail_sign_in_failed": Problem(
        title=_("The notification account's password is refused"),
        happened=_("%(mail_server)s refused the user name or the password of the notification account."),
        kept=_WAITING,
        remedy=_(
            "Enter the password again on the notification page, and the user name as name@contoso.com or "
            "CONTOSO\\name. See that the account is not locked or disabled (Get-ADUser, LockedOut and Enabled), and "
            "that its policy allows EWS (Get-CASMailbox, EwsEnabled)."
        ),
    ),
    "mail_sign_in_not_offered": Problem(
        title=_("The mail server does not offer this way to sign in"),
        happened=_("%(mail_server)s offers other ways to sign in than the one chosen, or none."),
        kept=_WAITING,
        remedy=_(
            "Choose one that is offered. For Exchange Web Services Get-WebServicesVirtualDirectory shows them; Basic "
            "is off unless somebody switched it on. For SMTP the receive connector must offer Basic authentication "
            "after STARTTLS (AuthMechanism), or need none: then leave the user name empty."
        ),
    ),
    "mail_account_disabled": Problem(
        title=_("The notification account is out of use"),
        happened=_("%(mail_server)s says that the account is disabled or locked, or that its password has expired."),
        kept=_WAITING,
        remedy=_("Enable or unlock the account, or give it a new password, and enter that on the notification page."),
    ),
    "mail_send_as_denied": Problem(
        title=_("The account may not send this mail"),
        happened=_("%(mail_server)s let us in, and does not let this account send from the sender's address."),
        kept=_WAITING,
        remedy=_(
            "The sender must be the account's own primary SMTP address. For SMTP without sign-in the receive connector "
            "must let this machine send (RemoteIPRanges, and for outside recipients the right to relay)."
        ),
    ),
    "mail_no_mailbox": Problem(
        title=_("The sender has no mailbox here"),
        happened=_("%(mail_server)s knows no mailbox at the sender's address, or not its Sent Items."),
        kept=_WAITING,
        remedy=_(
            "Give the notification account a mailbox in this organization (Enable-Mailbox), and enter its primary "
            "SMTP address as the sender. An account without a mailbox can send by SMTP."
        ),
    ),
    "mail_mailbox_full": Problem(
        title=_("The notification mailbox is full"),
        happened=_("The mailbox of the notification account at %(mail_server)s has no room, so it may not send."),
        kept=_WAITING,
        remedy=_(
            "Empty its Sent Items, let a retention policy do so, or raise its quota (Set-Mailbox -ProhibitSendQuota)."
        ),
    ),
    "mail_certificate": Problem(
        title=_("The mail server's certificate is not trusted"),
        happened=_(
            "The certificate of %(mail_server)s is from an authority that is not trusted here, has expired, or names "
            "another server. Nothing was sent to it."
        ),
        kept=_WAITING,
        remedy=_(
            "Add the certificate of the authority on the notification page, as Base-64 encoded X.509, or use a name "
            "that stands in the certificate."
        ),
    ),
    "mail_not_ews": Problem(
        title=_("There is no Exchange Web Services at this address"),
        happened=_("%(mail_server)s answered, and not as Exchange Web Services does."),
        kept=_WAITING,
        remedy=_(
            "The address looks like https://mail.contoso.com/EWS/Exchange.asmx (Get-WebServicesVirtualDirectory, "
            "InternalUrl). A reverse proxy that asks for a sign-in of its own cannot be used."
        ),
    ),
    "mail_tls_missing": Problem(
        title=_("The mail server offers no TLS"),
        happened=_("%(mail_server)s offers no STARTTLS, or none was asked for. Nothing was sent in clear text."),
        kept=_WAITING,
        remedy=_(
            "Assign a certificate to SMTP (Enable-ExchangeCertificate -Services SMTP), or choose TLS and its port. "
            "Without TLS no password is sent to another machine: leave the user name empty there."
        ),
    ),
    "mail_address_not_found": Problem(
        title=_("Exchange Web Services was not found"),
        happened=_("Autodiscover for %(mail_server)s named no address of Exchange Web Services."),
        kept=_WAITING,
        remedy=_(
            "Enter the address, such as https://mail.contoso.com/EWS/Exchange.asmx. Or let DNS name "
            "autodiscover.contoso.com, and see that InternalUrl is set (Get-WebServicesVirtualDirectory)."
        ),
    ),
    "mail_kerberos_failed": Problem(
        title=_("Kerberos to the mail server failed"),
        happened=_("The notification account got no Kerberos ticket for %(mail_server)s."),
        kept=_WAITING,
        remedy=_(
            "The realm's domain controllers must be reachable (krb5.conf or DNS), the clocks must agree within 5 "
            "minutes, and “setspn -Q HTTP/name” must show one account for the name in the address. Or choose NTLM."
        ),
    ),
    "mail_kerberos_unavailable": Problem(
        title=_("Kerberos for mail is not installed here"),
        happened=_("Notification mail is set to Kerberos, but the worker's machine lacks the Kerberos libraries."),
        kept=_WAITING,
        remedy=_("Install requirements/kerberos.txt into the worker's environment and restart it, or choose NTLM."),
    ),
    "mail_not_configured": Problem(
        title=_("No notification account is set up"),
        happened=_("Nobody has said yet by which account this organization's people are told."),
        kept=_WAITING,
        remedy=_("Set up Exchange Web Services or SMTP on the organization's notification page, and send a test mail."),
    ),
    "mail_secret_unreadable": Problem(
        title=_("The notification account's password cannot be read"),
        happened=_("The password is stored encrypted, and no key configured here fits it. Nothing was tried."),
        kept=_WAITING,
        remedy=_(
            "Put the key it was written with back into GATEHOUSE_FIELD_KEYS, after the newest one; web and workers "
            "need the same keys. If the key is lost, enter the password again."
        ),
    ),
    "mail_request_refused": Problem(
        title=_("The mail server does not understand us"),
        happened=_("%(mail_server)s refused the request itself. This is an error of Gatehouse or of a device between."),
        kept=_WAITING,
        remedy=_(
            "Report it with the server's words below and the version of Exchange. Sending by SMTP may do meanwhile."
        ),
    ),
    "mail_bad_settings": Problem(
        title=_("The settings for mail do not fit together"),
        happened=_("With these settings no mail can be sent by %(mail_server)s."),
        kept=_WAITING,
        remedy=_(
            "Check sender, user name (Kerberos wants name@contoso.com), address, port and certificates. The address "
            "of Exchange Web Services begins with https://."
        ),
    ),
}
