"""Entries for a command that Exchange took and then did not carry out."""

from __future__ import annotations

from collections.abc import Mapping

from django.utils.translation import gettext_lazy as _

from connectors.problems.entry import KEPT, KEPT_RETRIED, Problem

PROBLEMS: Mapping[str, Problem] = {
    "exchange_transient": Problem(
        title=_("A passing error in Exchange"),
        happened=_("%(cmdlet)s failed at %(server)s with an error that Exchange itself calls transient."),
        kept=KEPT_RETRIED,
        remedy=_(
            "Usually a domain controller did not answer: Get-ExchangeServer -Status shows those in use, and the "
            "Application log has events 2080 and 2114 of MSExchangeADAccess. Nothing to do if the next sync succeeds."
        ),
    ),
    "cmdlet_proxy_failed": Problem(
        title=_("Exchange could not pass the command on"),
        happened=_("%(server)s had to hand %(cmdlet)s to a server of another version, and that failed."),
        kept=KEPT_RETRIED,
        remedy=_(
            "In an organization of mixed versions, let the connector use servers of the newest version only, and "
            "check that the server named in the message runs and is reachable from %(server)s."
        ),
    ),
    "object_not_found": Problem(
        title=_("Exchange does not have the object any more"),
        happened=_("%(cmdlet)s named something that %(server)s could not find."),
        kept=KEPT_RETRIED,
        remedy=_(
            "It was probably removed in the meantime; a full sync puts the list right. If the object exists, it may "
            "lie in another domain of the forest, or the domain controllers have not replicated yet."
        ),
    ),
    "object_exists": Problem(
        title=_("Exchange has such an object already"),
        happened=_("%(cmdlet)s at %(server)s was to create something of which there is one already."),
        kept=_("Nothing was created and nothing was overwritten; what exists stays as it is."),
        remedy=_(
            "Somebody made it in the meantime, or under another spelling. Run a full sync: Gatehouse then shows what "
            "exists, and it can be changed from there."
        ),
    ),
    "outcome_unknown": Problem(
        title=_("It is not known whether Exchange carried the command out"),
        happened=_("%(server)s took %(cmdlet)s, and the connection was lost before its answer came."),
        kept=_(
            "The command was not sent a second time. Gatehouse reads what Exchange has before it does anything else "
            "about this object."
        ),
        remedy=_(
            "Usually nothing: the next sync finds out and completes what is missing. If it comes again and again, see "
            "whether an application pool of that server is being recycled, or a load balancer cuts long requests off."
        ),
    ),
    "observe_only": Problem(
        title=_("Not sent: this connector only observes"),
        happened=_("%(cmdlet)s was not sent to %(server)s, because only reading commands may be."),
        kept=_("Nothing was changed in Exchange."),
        remedy=_(
            "Nothing is wrong. The command that would have been sent is shown; to have commands sent, turn off "
            "“Observe only” of the connector, or start the run without dry run."
        ),
    ),
    "object_ambiguous": Problem(
        title=_("Several objects have this name"),
        happened=_("%(cmdlet)s named something that fits more than one object at %(server)s."),
        kept=KEPT,
        remedy=_(
            "Two mailboxes or devices share an alias or name. Find them with Get-Recipient -Anr <name> and rename "
            "one; a full sync then reads unambiguous names."
        ),
    ),
    "argument_refused": Problem(
        title=_("Exchange refused a value"),
        happened=_("%(server)s did not accept a value that was sent with %(cmdlet)s."),
        kept=KEPT,
        remedy=_(
            "Exchange's own words are quoted here; they name the value. If it came from Exchange itself (an odd "
            "name, say), correct it there; otherwise report it with the Exchange build and this code."
        ),
    ),
    "confirmation_required": Problem(
        title=_("Exchange asked a question that nobody can answer"),
        happened=_("%(cmdlet)s wanted a confirmation at %(server)s and was refused for that reason."),
        kept=KEPT,
        remedy=_(
            "A custom role may hide the parameter Confirm from the account: compare Get-ManagementRoleEntry "
            "“<role>\\%(cmdlet)s”. If the roles are the built-in ones, report it with the Exchange build and this "
            "code."
        ),
    ),
    "script_refused": Problem(
        title=_("Exchange takes no scripts"),
        happened=_("%(server)s took %(cmdlet)s for script text, which its restricted session does not run."),
        kept=KEPT,
        remedy=_(
            "Gatehouse sends commands, never scripts, so something between changes the request, or this is not "
            "Exchange's own endpoint. Try the server directly; otherwise report it with the Exchange build and this "
            "code."
        ),
    ),
    "command_failed": Problem(
        title=_("A command failed"),
        happened=_("Exchange could not carry out %(cmdlet)s at %(server)s."),
        kept=KEPT_RETRIED,
        remedy=_(
            "Exchange's own words are quoted here. Run the same command in the Exchange Management Shell with the "
            "connector's account; if it fails there too, that is what to solve."
        ),
    ),
    "listing_incomplete": Problem(
        title=_("The device list was not complete"),
        happened=_("%(server)s ended the answer to %(cmdlet)s before all devices had come, or left some out."),
        kept=_(
            "Nothing is changed in Exchange because of such a list, and phones keep the access they have. No device "
            "was marked as gone, since a list with holes proves nothing; devices that did come are up to date."
        ),
        remedy=_(
            "Run “Get-MobileDevice -ResultSize Unlimited” (on 2010 Get-ActiveSyncDevice) in the Exchange Management "
            "Shell with the connector's account and look for errors and warnings: a damaged object or a domain that "
            "is out of reach stops it there too."
        ),
    ),
    "exchange_error": Problem(
        title=_("Exchange answered with an unknown error"),
        happened=_("%(cmdlet)s at %(server)s ended with an error that Gatehouse cannot place."),
        kept=KEPT,
        remedy=_(
            "Exchange's own words, if it had any, are quoted here. Start the sync again; if it fails in the same "
            "way, report it with the Exchange build and this code."
        ),
    ),
}
