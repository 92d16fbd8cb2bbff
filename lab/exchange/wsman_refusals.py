"""The SOAP faults with which the PowerShell endpoint refuses, in the words and codes that clients know them by.

Texts and codes are of exchange.md 1.5 and 1.6. Which code carries the newer concurrency text on-premises is not known.
"""

from __future__ import annotations

import datetime
import uuid

from lab.exchange import wsman_messages as messages
from lab.exchange.wsman_messages import Fault


def too_many_shells(fqdn: str, number: int, protocol: str) -> Fault:
    if protocol == "2.1":
        return Fault(
            messages.QUOTA_MAX_SHELLS,
            "The WS-Management service cannot process the request. This user is allowed a maximum of "
            f"{number} concurrent shells, which has been exceeded. Close existing shells or raise the quota for "
            "this user.",
            subcode="w:QuotaLimit",
        )
    return Fault(
        messages.ACCESS_DENIED,
        f"[Server={_machine(fqdn)},RequestId={uuid.uuid4()},TimeStamp={_timestamp()}] "
        "[FailureCategory=AuthZ-AuthorizationException] Fail to create a runspace because you have exceeded the "
        f"maximum number of connections allowed : {number} for the policy party : MaxConcurrency. "
        "Please close existing runspace and try again.",
        subcode="w:AccessDenied",
    )


def shell_not_found(fqdn: str, shell_id: str, protocol: str) -> Fault:
    prefix = ""
    if protocol != "2.1":
        prefix = (
            f"[ClientAccessServer={_machine(fqdn)},BackEndServer={fqdn.lower()},RequestId={uuid.uuid4()},"
            f"TimeStamp={_timestamp()}] [FailureCategory=WSMan-InvalidShellID] "
        )
    return Fault(
        messages.UNEXPECTED_SELECTORS,
        f"{prefix}The request for the Windows Remote Shell with ShellId {shell_id} failed because the shell was "
        "not found on the server. Possible causes are: the specified ShellId is incorrect or the shell no longer "
        "exists on the server. Provide the correct ShellId or create a new shell and retry the operation.",
        subcode="w:InvalidSelectors",
    )


def no_such_command(command_id: str) -> Fault:
    return Fault(
        messages.UNEXPECTED_SELECTORS,
        "The WS-Management service cannot process the request because the request contained invalid selectors "
        f"for the resource: there is no command {command_id}.",
        subcode="w:InvalidSelectors",
    )


def too_many_commands() -> Fault:
    return Fault(
        messages.QUOTA_MAX_COMMANDS,
        "The WS-Management service cannot process the request. The maximum number of concurrent commands "
        "per shell has been exceeded. Retry your request later or raise the Maximum Commands per Shell quota.",
        subcode="w:QuotaLimit",
    )


def timed_out() -> Fault:
    """Nothing came within the long poll: not an error, the client asks again."""
    return Fault(
        messages.OPERATION_TIMED_OUT,
        "The WS-Management service cannot complete the operation within the time specified in OperationTimeout.",
        subcode="w:TimedOut",
        is_senders=False,
    )


def access_denied() -> Fault:
    return Fault(messages.ACCESS_DENIED, "Access is denied.", subcode="w:AccessDenied")


def action_not_supported() -> Fault:
    return Fault(
        messages.ACTION_NOT_SUPPORTED,
        "The WS-Management service does not support the action specified in the request.",
        subcode="a:ActionNotSupported",
    )


def unknown_resource(uri: str) -> Fault:
    return Fault(
        messages.RESOURCE_URI_UNKNOWN,
        f"The WS-Management service cannot process the request. The resource URI ({uri}) was not found in the "
        "WS-Management catalog. The catalog contains the metadata that describes resources, or logical endpoints.",
        subcode="a:DestinationUnreachable",
    )


def _machine(fqdn: str) -> str:
    return fqdn.partition(".")[0].upper()


def _timestamp() -> str:
    return datetime.datetime.now(datetime.UTC).strftime("%-m/%-d/%Y %-I:%M:%S %p")
