"""Entries for what goes wrong with a tenant's Microsoft Graph: signing in, permissions, the service, the network."""

from __future__ import annotations

from collections.abc import Mapping

from django.utils.translation import gettext_lazy as _

from connectors.problems.entry import Problem

# True of every reading of Graph: it writes nothing, and what could not be read is as it was.
KEPT = _(
    "Nobody's access changes because Graph could not be read. The records, people and groups of the last successful "
    "reading stay and still count; none was taken for gone."
)
KEPT_RETRIED = _(
    "Nobody's access changes because Graph could not be read. The records, people and groups of the last successful "
    "reading stay and still count; none was taken for gone. The next reading tries again."
)

PROBLEMS: Mapping[str, Problem] = {
    # --- settings and credentials ---
    "graph_bad_settings": Problem(
        title=_("The settings for Microsoft Graph cannot work"),
        happened=_("The settings by which Gatehouse reaches Microsoft Graph are incomplete or contradict each other."),
        kept=KEPT,
        remedy=_(
            "On the tenant's source of device records, enter the directory (tenant) ID and the application (client) "
            "ID as the app registration's overview shows them, and a client secret or a certificate. Addresses other "
            "than the cloud's own must begin with https."
        ),
    ),
    "graph_secret_wrong": Problem(
        title=_("The client secret is wrong"),
        happened=_("The sign-in service does not accept the client secret of the application."),
        kept=KEPT,
        remedy=_(
            "In the Entra admin center open the app registration, Certificates & secrets, and make a new client "
            "secret. Enter its value, not its secret ID; the value is shown only once."
        ),
    ),
    "graph_secret_expired": Problem(
        title=_("The client secret has expired"),
        happened=_("The client secret of the application has passed its end date."),
        kept=KEPT,
        remedy=_(
            "Make a new client secret in the app registration (Certificates & secrets) and enter its value here. Note "
            "its end date, so that Gatehouse can warn in time, or use a certificate."
        ),
    ),
    "graph_certificate_refused": Problem(
        title=_("The certificate is not accepted"),
        happened=_("The sign-in service does not accept the application's certificate."),
        kept=KEPT,
        remedy=_(
            "Upload the certificate (without its private key) to the app registration, Certificates & secrets, and "
            "compare the thumbprint there with the one shown here. A certificate past its end date is refused too."
        ),
    ),
    "graph_certificate_expired": Problem(
        title=_("The application's certificate has expired"),
        happened=_("The certificate by which Gatehouse signs in to Microsoft Graph has passed its end date."),
        kept=KEPT,
        remedy=_(
            "Make a new certificate, upload it to the app registration (Certificates & secrets), and enter it here "
            "with its private key. Both certificates may be registered at the same time."
        ),
    ),
    "graph_certificate_unreadable": Problem(
        title=_("The application's certificate cannot be read"),
        happened=_("What is stored as the certificate for Microsoft Graph is no RSA key with its certificate."),
        kept=KEPT,
        remedy=_(
            "Enter PEM text that holds the private key (RSA, at least 2048 bits, without a password) and the "
            "certificate of that key. From a PFX file: “openssl pkcs12 -in app.pfx -nodes”."
        ),
    ),
    "graph_application_unknown": Problem(
        title=_("The application is unknown in this directory"),
        happened=_("The directory has no application with the client ID that was entered."),
        kept=KEPT,
        remedy=_(
            "Compare the application (client) ID and the directory (tenant) ID with the app registration's overview. "
            "If the application is registered elsewhere, an administrator of this directory must consent to it first."
        ),
    ),
    "graph_application_disabled": Problem(
        title=_("The application is switched off"),
        happened=_("The directory does not let this application sign in: it, or its directory, is disabled."),
        kept=KEPT,
        remedy=_(
            "In the Entra admin center open Enterprise applications, the application, Properties, and set “Enabled for "
            "users to sign in” to Yes. If the directory itself is blocked, ask Microsoft's support."
        ),
    ),
    "graph_tenant_unknown": Problem(
        title=_("The directory is unknown"),
        happened=_("The sign-in service knows no directory with the ID or domain name that was entered."),
        kept=KEPT,
        remedy=_(
            "Enter the directory (tenant) ID from the Entra admin center's overview. If it is right, the directory is "
            "in another cloud: choose US Government or China where that is so."
        ),
    ),
    "graph_conditional_access": Problem(
        title=_("Conditional access keeps the application out"),
        happened=_("A conditional access policy of the directory refuses the application from where Gatehouse runs."),
        kept=KEPT,
        remedy=_(
            "In the Entra admin center look at Sign-in logs, Service principal sign-ins, for the policy that was "
            "applied. Exclude the application from it, or add the address of this machine to its named locations."
        ),
    ),
    "graph_wrong_cloud": Problem(
        title=_("The cloud does not fit the directory"),
        happened=_("The directory does not know the Graph address of the cloud that was chosen."),
        kept=KEPT,
        remedy=_(
            "Choose the cloud in which the directory is: global, US Government L4 (GCC High), US Government L5 (DoD), "
            "or China (21Vianet). US GCC belongs to the global cloud."
        ),
    ),
    "graph_token_refused": Problem(
        title=_("Graph does not accept the sign-in"),
        happened=_("The sign-in succeeded, and %(graph_server)s refused the token that it gave, a new one as well."),
        kept=KEPT,
        remedy=_(
            "The token is for another cloud: see that the cloud that was chosen is the directory's own, and that the "
            "addresses, where they were changed, belong together. A clock that is far off has the same effect."
        ),
    ),
    "graph_sign_in_failed": Problem(
        title=_("Signing in to Microsoft Graph failed"),
        happened=_("The sign-in service refused the application for a reason that Gatehouse has no name for."),
        kept=KEPT,
        remedy=_(
            "The number that begins with AADSTS says why: look it up at login.microsoftonline.com/error. Then compare "
            "directory, application and secret with the app registration."
        ),
    ),
    "graph_clock_skew": Problem(
        title=_("The clocks differ too much"),
        happened=_("The sign-in service refused a signed request because of its time."),
        kept=KEPT,
        remedy=_("Set this machine's clock, best by NTP (“timedatectl set-ntp true”), and try again."),
    ),
    "graph_certificate_untrusted": Problem(
        title=_("The connection to Microsoft is not trusted"),
        happened=_("%(graph_server)s showed a certificate that is not trusted here; nothing was sent to it."),
        kept=KEPT,
        remedy=_(
            "A proxy that looks into TLS is between this machine and Microsoft. Let Microsoft's hosts pass untouched, "
            "or give Gatehouse the proxy's authority (GATEHOUSE_GRAPH_CA_FILE)."
        ),
    ),
    "graph_proxy_failed": Problem(
        title=_("The proxy did not let us through to Microsoft"),
        happened=_("The proxy between this machine and %(graph_server)s refused or could not make the connection."),
        kept=KEPT,
        remedy=_(
            "Check GATEHOUSE_GRAPH_PROXY: its address must begin with http, and it must allow the sign-in and Graph "
            "hosts of the cloud at port 443. Without it the worker connects directly, whatever its environment says."
        ),
    ),
    # --- permissions ---
    "graph_permission_missing": Problem(
        title=_("The application lacks a permission"),
        happened=_("Graph does not let the application read this. It needs the application permission %(permission)s."),
        kept=KEPT,
        remedy=_(
            "In the app registration open API permissions, add %(permission)s of Microsoft Graph as an application "
            "permission (not a delegated one), and grant admin consent. It takes effect with the next sign-in, which "
            "may be an hour away; “Test connection” signs in anew."
        ),
    ),
    "graph_members_hidden": Problem(
        title=_("Members of a group are hidden"),
        happened=_("Graph shows members of a group as ids with nothing else; some may not be shown at all."),
        kept=KEPT,
        remedy=_(
            "Give the application the permission User.Read.All, and %(permission)s where the group hides its "
            "membership, and grant admin consent."
        ),
    ),
    "graph_intune_unavailable": Problem(
        title=_("Graph has no device management for this tenant"),
        happened=_("Graph refused to tell managed devices. A tenant without an active Intune licence is one reason."),
        kept=KEPT,
        remedy=_(
            "See in the Microsoft 365 admin center, Billing, whether the tenant has an active licence that holds "
            "Intune, and open the Intune admin center once so that it is set up. If both are so, what Graph said, "
            "quoted here, tells more."
        ),
    ),
    # --- the service ---
    "graph_throttled": Problem(
        title=_("Microsoft Graph asks us to slow down"),
        happened=_(
            "%(graph_server)s refused more requests and asked for a pause of %(wait)s, longer than this reading waits."
        ),
        kept=KEPT_RETRIED,
        remedy=_(
            "Nothing needs to be done if it is rare. If not, another application of the tenant may be reading much, or "
            "several Gatehouses read the same tenant: the limits hold for all of them together."
        ),
    ),
    "graph_server_error": Problem(
        title=_("Microsoft Graph is unwell"),
        happened=_("%(graph_server)s answered with an error of its own, several times."),
        kept=KEPT_RETRIED,
        remedy=_(
            "See the Service health page of the Microsoft 365 admin center. If it lasts, give Microsoft's support the "
            "request that is named here."
        ),
    ),
    "graph_deadline_exceeded": Problem(
        title=_("Reading Graph took too long"),
        happened=_("%(graph_server)s was still sending pages when the time set for the listing was over."),
        kept=KEPT_RETRIED,
        remedy=_("Look at whether the run was throttled for long, and at the line between this machine and Microsoft."),
    ),
    "graph_resync_required": Problem(
        title=_("Graph has forgotten where we were"),
        happened=_("Graph no longer knows the changes since the last reading of people."),
        kept=KEPT_RETRIED,
        remedy=_("Nothing needs to be done: the next reading begins with everybody."),
    ),
    "graph_not_found": Problem(
        title=_("Not there"),
        happened=_("Graph does not know what was asked for; it was removed, or its ID is wrong."),
        kept=KEPT,
        remedy=_("If it is a group of the policy, choose another group there."),
    ),
    "graph_request_refused": Problem(
        title=_("Graph refuses a request"),
        happened=_("Graph took one of our requests for wrong."),
        kept=KEPT,
        remedy=_(
            "The fault is most likely in Gatehouse, or Graph has changed. Report it with what Graph said, quoted here."
        ),
    ),
    "graph_error": Problem(
        title=_("Reading Microsoft Graph failed"),
        happened=_("Graph answered in a way that Gatehouse has no other name for."),
        kept=KEPT_RETRIED,
        remedy=_("Try again; if it fails in the same way, report it with what Graph said, quoted here."),
    ),
    # --- answers that are none ---
    "graph_bad_answer": Problem(
        title=_("The answer is not Graph's"),
        happened=_("What came from %(graph_server)s is no answer of Microsoft Graph, or only a part of one."),
        kept=KEPT_RETRIED,
        remedy=_(
            "A proxy or firewall that answers in its place is the usual reason: try “curl -v "
            "https://%(graph_server)s/” on this machine. If addresses were changed for the source, correct them."
        ),
    ),
    "graph_record_unreadable": Problem(
        title=_("A record cannot be read"),
        happened=_("Graph sent a record with a value of a shape that Gatehouse does not know."),
        kept=KEPT,
        remedy=_("Report it with the property that is named here. All other records are read as ever."),
    ),
    "graph_answer_too_large": Problem(
        title=_("The answer is too large"),
        happened=_("%(graph_server)s sent more in one answer than any page of Graph holds; it was not read further."),
        kept=KEPT_RETRIED,
        remedy=_("See whether a proxy answers in Graph's place, and whether the address of the source is right."),
    ),
    "graph_foreign_link": Problem(
        title=_("Graph sends us elsewhere"),
        happened=_("A page named a next page at another address than Graph's own. It was not followed."),
        kept=KEPT,
        remedy=_(
            "So that the sign-in goes to nobody else, only Graph's own address is followed. See that no proxy rewrites "
            "answers, and that the cloud is the right one."
        ),
    ),
    "graph_redirected": Problem(
        title=_("Microsoft's address redirects"),
        happened=_(
            "%(graph_server)s answered with a redirection. It was not followed, so that the sign-in goes to no other."
        ),
        kept=KEPT,
        remedy=_(
            "A proxy that wants people to sign in does so: let the machine pass without. If addresses were changed for "
            "the source, correct them."
        ),
    ),
    # --- the network ---
    "graph_name_not_resolved": Problem(
        title=_("Microsoft's name is unknown"),
        happened=_("The machine that reads Graph cannot find an address for %(graph_server)s."),
        kept=KEPT_RETRIED,
        remedy=_(
            "Try “nslookup %(graph_server)s” there. A machine without names of the internet needs a proxy "
            "(GATEHOUSE_GRAPH_PROXY), which looks them up itself."
        ),
    ),
    "graph_unreachable": Problem(
        title=_("Microsoft Graph cannot be reached"),
        happened=_("No connection to %(graph_server)s could be made."),
        kept=KEPT_RETRIED,
        remedy=_(
            "The firewall must let this machine connect to the sign-in and Graph hosts of the cloud at port 443, or a "
            "proxy must be set (GATEHOUSE_GRAPH_PROXY). Try “curl -v https://%(graph_server)s/”."
        ),
    ),
    "graph_timed_out": Problem(
        title=_("Microsoft Graph went silent"),
        happened=_("%(graph_server)s did not answer in time, several times."),
        kept=KEPT_RETRIED,
        remedy=_("See the Service health page of the Microsoft 365 admin center, and the line to the internet."),
    ),
    "graph_dropped": Problem(
        title=_("The connection to Microsoft broke"),
        happened=_("The connection to %(graph_server)s ended in the middle of an answer, several times."),
        kept=KEPT_RETRIED,
        remedy=_("If it goes on, look for a firewall or proxy that ends connections, and for what it notes of them."),
    ),
}
