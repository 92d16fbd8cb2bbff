"""Entries for what happens before Exchange has said anything: names, connections, certificates, proxies."""

from __future__ import annotations

from collections.abc import Mapping

from django.utils.translation import gettext_lazy as _

from connectors.problems.entry import KEPT, KEPT_RETRIED, Problem

PROBLEMS: Mapping[str, Problem] = {
    "name_not_resolved": Problem(
        title=_("The server name is unknown"),
        happened=_("The machine that runs this connector's syncs cannot find an address for %(server)s."),
        kept=KEPT_RETRIED,
        remedy=_(
            "Check the spelling of the name on the connector. If it is right, this machine asks a DNS server that "
            "does not know your internal zone: try “nslookup %(server)s” there, or give the server an address to "
            "connect to."
        ),
    ),
    "connection_refused": Problem(
        title=_("The server refuses the connection"),
        happened=_("%(server)s is reachable, but nothing accepts connections at the port set for it."),
        kept=KEPT_RETRIED,
        remedy=_(
            "Check on that server that IIS runs (services W3SVC and WAS) and that “Default Web Site” is started with "
            "a binding for this port. The port must be 443, or 80 without TLS, never 5985 or 5986. A firewall that "
            "rejects looks the same."
        ),
    ),
    "connection_timed_out": Problem(
        title=_("The server cannot be reached"),
        happened=_("%(server)s did not answer the attempt to connect in time."),
        kept=KEPT_RETRIED,
        remedy=_(
            "The server is off, or a firewall between it and this machine drops the packets. From the machine that "
            "runs the syncs, try “Test-NetConnection %(server)s -Port 443” or “nc -vz %(server)s 443”. If it must go "
            "another way, set the address to connect to, or place a worker in a site near Exchange."
        ),
    ),
    "connection_dropped": Problem(
        title=_("The connection broke"),
        happened=_("The connection to %(server)s ended in the middle of an answer."),
        kept=KEPT_RETRIED,
        remedy=_(
            "Once is nothing to worry about: a restart, an application pool recycled, a load balancer changing "
            "servers. If it comes again at about the same moment, look for a time limit in the firewall or load "
            "balancer, give the connector the servers themselves in place of a load-balanced name, and read the "
            "System log for recycling of MSExchangePowerShellAppPool and MSExchangePowerShellFrontEndAppPool."
        ),
    ),
    "no_answer": Problem(
        title=_("The server went silent"),
        happened=_("%(server)s took the request for %(cmdlet)s and then sent nothing until the limit was reached."),
        kept=KEPT_RETRIED,
        remedy=_(
            "Run the same command in the Exchange Management Shell on that server. If it hangs there too, look at "
            "the domain controllers that Exchange uses (Get-ExchangeServer -Status) and at memory and CPU; recycling "
            "MSExchangePowerShellAppPool frees a stuck process. If it is only slow, raise GATEHOUSE_SILENCE_SECONDS."
        ),
    ),
    "deadline_exceeded": Problem(
        title=_("It took too long"),
        happened=_("%(server)s was still sending the answer to %(cmdlet)s when the time set for it was over."),
        kept=KEPT_RETRIED,
        remedy=_(
            "Look at how many devices a second the run read and whether Exchange throttled it. A slow line is best "
            "answered by a worker near Exchange (the connector's site). If the organization is that large, raise "
            "GATEHOUSE_LISTING_DEADLINE_SECONDS."
        ),
    ),
    "certificate_untrusted": Problem(
        title=_("The certificate is not trusted"),
        happened=_("%(server)s showed a certificate of an authority that is not trusted here; nothing was sent to it."),
        kept=KEPT,
        remedy=_(
            "Export the certificate of the authority that issued it, as Base-64 encoded X.509, and add it to the "
            "connector. For the self-signed certificate that Exchange's set-up makes, add that certificate itself, "
            "or better, assign one of your authority: Enable-ExchangeCertificate -Services IIS. A missing "
            "intermediate certificate on the server looks the same."
        ),
    ),
    "certificate_expired": Problem(
        title=_("The certificate is not valid today"),
        happened=_("The certificate of %(server)s has expired, or is not valid yet; nothing was sent to the server."),
        kept=KEPT,
        remedy=_(
            "Renew it (Get-ExchangeCertificate shows NotAfter; assign the new one with Enable-ExchangeCertificate "
            "-Services IIS). If the dates are right, compare the clocks of that server and of this machine."
        ),
    ),
    "certificate_wrong_name": Problem(
        title=_("The certificate is for another name"),
        happened=_("The certificate that %(server)s showed does not name %(server)s; nothing was sent to it."),
        kept=KEPT,
        remedy=_(
            "Enter the server by a name that stands in its certificate (Get-ExchangeCertificate shows them as "
            "CertificateDomains), and where that name leads elsewhere, set the server's address to connect to. Or "
            "assign a certificate that holds the server's own name."
        ),
    ),
    "proxy_failed": Problem(
        title=_("The proxy did not let us through"),
        happened=_("The proxy between this machine and %(server)s refused or could not make the connection."),
        kept=KEPT,
        remedy=_(
            "Check the proxy's address and credentials, and that it may connect to %(server)s at 80 and 443. "
            "Exchange in your own building rarely needs a proxy: without one set for the connector the worker "
            "connects directly, whatever its environment says."
        ),
    ),
    "redirected": Problem(
        title=_("The server sends us elsewhere"),
        happened=_(
            "%(server)s answered with a redirection. It was not followed, so that the account goes to no other server."
        ),
        kept=KEPT,
        remedy=_(
            "On the server, remove the HTTP redirection that “PowerShell” inherits from “Default Web Site” (IIS "
            "Manager, HTTP Redirect). If http is redirected to https, set port 443 with TLS on the connector."
        ),
    ),
}
