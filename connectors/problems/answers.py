"""Entries for what a server answered that is no proper PowerShell session, and for a session lost or slowed down."""

from __future__ import annotations

from collections.abc import Mapping

from django.utils.translation import gettext_lazy as _

from connectors.problems.entry import KEPT, KEPT_RETRIED, Problem

PROBLEMS: Mapping[str, Problem] = {
    "endpoint_not_found": Problem(
        title=_("There is no PowerShell at this address"),
        happened=_("%(server)s runs a web server, but has nothing at /PowerShell (404)."),
        kept=KEPT,
        remedy=_(
            "Check that the name leads to an Exchange server (Client Access, or Mailbox from 2016 on) and not to a "
            "reverse proxy that publishes only OWA. On the server, Get-PowerShellVirtualDirectory must show one of "
            "“Default Web Site”; New-PowerShellVirtualDirectory makes it anew."
        ),
    ),
    "wrong_port": Problem(
        title=_("This port is not Exchange's"),
        happened=_(
            "%(server)s answered, but not as Exchange does at this port: either with Windows' own remote management "
            "(that is what 5985 and 5986 are, and it has no Exchange in it), or without TLS where TLS was expected."
        ),
        kept=KEPT,
        remedy=_(
            "Exchange's remote PowerShell lives in IIS: set the port to 443 with TLS, or to 80 without. At another "
            "port, check in IIS Manager whether that binding is http or https."
        ),
    ),
    "not_powershell": Problem(
        title=_("The answer is not PowerShell's"),
        happened=_(
            "%(server)s answered with something else, such as a web page, where PowerShell remoting was expected."
        ),
        kept=KEPT,
        remedy=_(
            "A sign-in page of a reverse proxy, or an error page: open https://%(server)s/PowerShell/ in a browser "
            "and see who answers. On the server, check that the modules “kerbauth” and “WSMan” are registered for "
            "the PowerShell virtual directory only, and that the account is enabled for remote PowerShell."
        ),
    ),
    "server_unavailable": Problem(
        title=_("The server is not available"),
        happened=_("%(server)s answered “503 Service Unavailable”."),
        kept=KEPT_RETRIED,
        remedy=_(
            "On that server, start the application pools MSExchangePowerShellAppPool and "
            "MSExchangePowerShellFrontEndAppPool in IIS Manager; if they stop again, the Application log says why. "
            "During maintenance (Get-ServerComponentState) this is to be expected."
        ),
    ),
    "server_error": Problem(
        title=_("The server failed"),
        happened=_("%(server)s answered “500 Internal Server Error” and gave no reason that Gatehouse knows."),
        kept=KEPT_RETRIED,
        remedy=_(
            "Look into the Application log and into the HttpProxy\\PowerShell and CmdletInfra logs of that server at "
            "the time of the run. Often the back end's certificate is missing: the binding of “Exchange Back End” at "
            "port 444 must have one."
        ),
    ),
    "shell_lost": Problem(
        title=_("The session was lost"),
        happened=_("%(server)s no longer knows the session that it opened for us."),
        kept=KEPT_RETRIED,
        remedy=_(
            "An application pool was recycled, or a load balancer passed us to another server. If it comes again, "
            "give the connector the servers themselves in place of a load-balanced name, or turn on session affinity "
            "for /PowerShell."
        ),
    ),
    "pool_broken": Problem(
        title=_("Exchange closed the session"),
        happened=_("%(server)s declared the session broken while it was in use."),
        kept=KEPT_RETRIED,
        remedy=_(
            "Look at memory of the server and at the recycling limits of MSExchangePowerShellAppPool. A throttling "
            "policy that cuts the account off looks the same: Get-ThrottlingPolicyAssociation <account>."
        ),
    ),
    "malformed_answer": Problem(
        title=_("The answer could not be read"),
        happened=_(
            "%(server)s sent an answer to %(cmdlet)s that is damaged or of a form that Gatehouse does not know."
        ),
        kept=KEPT_RETRIED,
        remedy=_(
            "Something on the way may alter it (an inspecting proxy, compression): try the server directly. If it "
            "comes again, report it with the Exchange build and the code of this page; the listing itself was not "
            "used."
        ),
    ),
    "too_many_shells": Problem(
        title=_("Too many sessions of this account"),
        happened=_(
            "%(server)s lets this account have no further session; the limit is 18 unless a policy says otherwise."
        ),
        kept=KEPT_RETRIED,
        remedy=_(
            "Give Gatehouse an account that nothing else uses. Sessions of programs that were killed count until "
            "they expire: Gatehouse's own after 3 minutes, those of others often after 15. Recycling "
            "MSExchangePowerShellAppPool ends them at once, everybody's. For more sessions, New-ThrottlingPolicy "
            "-ThrottlingPolicyScope Regular -PowerShellMaxConcurrency <n>, then Set-ThrottlingPolicyAssociation "
            "<account>."
        ),
    ),
    "user_load_quota": Problem(
        title=_("Exchange throttles this account"),
        happened=_("The account's quota at %(server)s is used up; Exchange asked for a pause of %(wait)s."),
        kept=KEPT_RETRIED,
        remedy=_(
            "Usually another program works with the same account: give Gatehouse its own. If it is alone, raise its "
            "limits by a policy of its own (New-ThrottlingPolicy -ThrottlingPolicyScope Regular with "
            "PowerShellMaxCmdlets, and from 2013 on PowerShellMaxBurst and PowerShellRechargeRate), attached by "
            "Set-ThrottlingPolicyAssociation <account>."
        ),
    ),
    "too_many_commands": Problem(
        title=_("Too many commands in one session"),
        happened=_("%(server)s refuses further commands in this session; Exchange asked for a pause of %(wait)s."),
        kept=KEPT_RETRIED,
        remedy=_(
            "See PowerShellMaxCmdlets, PowerShellMaxOperations and PowerShellMaxCmdletQueueDepth of the account's "
            "throttling policy (Get-ThrottlingPolicyAssociation <account>); the queue depth should be at least three "
            "times PowerShellMaxConcurrency."
        ),
    ),
    "server_busy": Problem(
        title=_("The server is busy"),
        happened=_("%(server)s asked to be left alone for %(wait)s."),
        kept=KEPT_RETRIED,
        remedy=_(
            "Nothing, if it happens now and then. Otherwise move the daily full sync to a quieter hour, and see what "
            "loads the server: backup, database moves, other scripts."
        ),
    ),
}
