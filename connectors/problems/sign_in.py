"""Entries for signing in: the account, Kerberos, and the virtual directory's own gate."""

from __future__ import annotations

from collections.abc import Mapping

from django.utils.translation import gettext_lazy as _

from connectors.problems.entry import KEPT, Problem

PROBLEMS: Mapping[str, Problem] = {
    "authentication_failed": Problem(
        title=_("Exchange did not accept the account"),
        happened=_(
            "%(server)s refused the user name and password. No other server was tried, so that the account is not "
            "locked out."
        ),
        kept=KEPT,
        remedy=_(
            "See whether the password expired or the account is locked (Search-ADAccount -LockedOut), then enter the "
            "password again. If both are right, try the other form of the user name (name@contoso.com or "
            "CONTOSO\\name), and see whether the way to sign in is meant to be on: Get-PowerShellVirtualDirectory "
            "-Server <name> | Format-List *Authentication*. With a TLS-terminating proxy in between, Extended "
            "Protection refuses NTLM and Negotiate."
        ),
    ),
    "authentication_not_offered": Problem(
        title=_("The server does not offer this way to sign in"),
        happened=_("%(server)s does not offer the way to sign in that the connector is set to. No password was sent."),
        kept=KEPT,
        remedy=_(
            "See what is switched on: Get-PowerShellVirtualDirectory -Server <name> | Format-List *Authentication*. "
            "A stock server offers Kerberos only. Choose what is offered, or switch on what you want: "
            "Set-PowerShellVirtualDirectory “<name>\\PowerShell (Default Web Site)” -BasicAuthentication $true (with "
            "TLS), or -WindowsAuthentication $true for NTLM and Negotiate."
        ),
    ),
    "access_denied": Problem(
        title=_("The account may not use remote PowerShell"),
        happened=_("%(server)s knows the account, but does not let it open a session."),
        kept=KEPT,
        remedy=_(
            "Run “Set-User <account> -RemotePowerShellEnabled $true”, and put the account into at least one "
            "management role group: Get-ManagementRoleAssignment -RoleAssignee <account> must show something. A "
            "change takes some minutes and, in several sites, until Active Directory has replicated."
        ),
    ),
    "forbidden": Problem(
        title=_("The server forbids it"),
        happened=_("%(server)s answered “403 Forbidden” for its PowerShell virtual directory."),
        kept=KEPT,
        remedy=_(
            "Most often “Require SSL” is set on the virtual directory while the connector speaks http: use port 443 "
            "with TLS, or Set-PowerShellVirtualDirectory -RequireSSL $false. Otherwise look for IP address "
            "restrictions and client access rules (Get-ClientAccessRule) that hold for RemotePowerShell."
        ),
    ),
    "kerberos_failed": Problem(
        title=_("Kerberos sign-in failed"),
        happened=_(
            "No Kerberos ticket for %(server)s could be had, or the server did not accept it. No other server was "
            "tried, so that the account is not locked out."
        ),
        kept=KEPT,
        remedy=_(
            "Write the account as name@CONTOSO.COM, and see whether its password expired. Then check the service "
            "principal name: “setspn -Q HTTP/%(server)s” must show exactly one account, the server's own, or for a "
            "load-balanced name the alternate service account that all its servers share; such a name must be an A "
            "record, not a CNAME. The realm's domain controllers must be reachable at port 88 (krb5.conf or DNS)."
        ),
    ),
    "kerberos_unavailable": Problem(
        title=_("Kerberos is not installed here"),
        happened=_("The connector is set to Kerberos, but the worker's machine lacks the Kerberos libraries."),
        kept=KEPT,
        remedy=_(
            "Install the system's Kerberos client (Debian: libkrb5-3 and krb5-user) and requirements/kerberos.txt "
            "into the worker's environment, then restart the worker. Or choose Negotiate, NTLM or Basic, if the "
            "server allows them."
        ),
    ),
    "clock_skew": Problem(
        title=_("The clocks differ too much"),
        happened=_(
            "The clocks of %(server)s and of this machine are too far apart for Kerberos, which allows 5 minutes."
        ),
        kept=KEPT,
        remedy=_(
            "Let both take the time from the same source: on Windows “w32tm /resync” and “w32tm /query /status”, "
            "here “timedatectl”. Virtual machines often take a wrong time from their host after a pause."
        ),
    ),
    "cmdlet_not_granted": Problem(
        title=_("The account lacks a command"),
        happened=_(
            "Exchange does not offer %(cmdlet)s to the account. It hides what no management role of the account holds."
        ),
        kept=KEPT,
        remedy=_(
            "Find the roles with “Get-ManagementRole -Cmdlet %(cmdlet)s” and put the account into a role group that "
            "has one. Recipient Management, Server Management and View-Only Organization Management together cover "
            "all that Gatehouse uses."
        ),
    ),
    "parameter_not_granted": Problem(
        title=_("The account lacks a parameter of a command"),
        happened=_(
            "Exchange offers %(cmdlet)s to the account, but not a parameter that Gatehouse needs. A custom role "
            "hides it."
        ),
        kept=KEPT,
        remedy=_(
            "See what was taken away: Get-ManagementRoleEntry “<role>\\%(cmdlet)s” | Format-List Parameters. Restore "
            "the entry with Set-ManagementRoleEntry -AddParameter, or use the built-in roles."
        ),
    ),
    "secret_unreadable": Problem(
        title=_("The stored password cannot be read"),
        happened=_(
            "The account's password is stored encrypted, and no key configured here fits it. Nothing was tried."
        ),
        kept=KEPT,
        remedy=_(
            "Put the key it was written with back: into GATEHOUSE_FIELD_KEYS, after the newest one, or as "
            "secrets/fields.key under GATEHOUSE_HOME; web and workers need the same keys. If the key is lost, enter "
            "the password again."
        ),
    ),
    "no_server_configured": Problem(
        title=_("No server to connect to"),
        happened=_("The connector has no Client Access Server that it may connect to."),
        kept=KEPT,
        remedy=_(
            "Add a server's fully qualified name and port to the connector. Servers that Exchange named by itself "
            "are listed only: discovery tells no address or port that is known to work from here."
        ),
    ),
    "bad_settings": Problem(
        title=_("The connector's settings do not fit together"),
        happened=_("With the settings of this connector no connection to %(server)s can be made."),
        kept=KEPT,
        remedy=_(
            "Check the way to sign in, the form of the user name (name@contoso.com or CONTOSO\\name), the ports, and "
            "the certificates of the connector."
        ),
    ),
}
