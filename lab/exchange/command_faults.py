"""The faults of lab/faults.py that concern commands: slowness, throttling, errors of Exchange's own, lost objects."""

from __future__ import annotations

import threading
from collections.abc import Iterator

from lab.exchange.cmdlets.listing import truncation
from lab.exchange.cmdlets.registry import INVALID_OPERATION, Context
from lab.exchange.contract import Failure, ObjectXml, Output, Warn
from lab.faults import Faults

# How often a held command looks whether it may go on.
LOOK = 0.02


def with_faults(faults: Faults, context: Context, outputs: Iterator[Output], stop: threading.Event) -> Iterator[Output]:
    """What a command puts out, after the faults that are due for it."""
    where = {"server": context.state.server, "cmdlet": context.cmdlet}
    if not _held(faults, where, stop):
        return
    if fault := faults.take("slow_command", **where):
        stop.wait(_number(fault.value, 1.0))
    if fault := faults.take("micro_delay", **where):
        milliseconds = round(_number(fault.value, 500.0))
        stop.wait(milliseconds / 1000)
        yield Warn(
            f"Micro delay applied. Actual delayed: {milliseconds} msecs, Enforced delay: {milliseconds} msecs, "
            "Capped delay: 0 msecs, Required: False, Additional info: Policy: Default."
        )
    for kind, failure in (("throttle", _throttled), ("transient", _transient), ("proxy_error", _proxy)):
        if fault := faults.take(kind, **where):
            yield failure(context, fault.value)
            return
    yield from _objects(faults, where, outputs, stop)
    if (fault := faults.take("error_record", **where)) and not stop.is_set():
        yield context.error(
            fault.value or "An error of the lab's making.",
            "System.InvalidOperationException",
            category=INVALID_OPERATION,
        )


def _held(faults: Faults, where: dict[str, str], stop: threading.Event) -> bool:
    """Wait while a command is held. False: it was stopped meanwhile, and is not to be carried out."""
    fault = faults.peek("hold", **where)
    if fault is None:
        return True
    if fault.value:
        faults.take("hold", **where)
        return not stop.wait(_number(fault.value, 1.0))
    while fault in faults.all():
        if stop.wait(LOOK):
            return False
    return True


def _objects(
    faults: Faults, where: dict[str, str], outputs: Iterator[Output], stop: threading.Event
) -> Iterator[Output]:
    truncated, slow = faults.take("truncated", **where), faults.take("slow_object", **where)
    sent = 0
    for output in outputs:
        if stop.is_set():
            return
        if isinstance(output, ObjectXml):
            if slow is not None:
                stop.wait(_number(slow.value, 0.01))
            if truncated is not None and sent >= _number(truncated.value, 0.0):
                yield truncation()
                return
            sent += 1
        yield output


def _number(text: str, default: float) -> float:
    try:
        return float(text)
    except ValueError:
        return default


def _throttled(context: Context, value: str) -> Failure:
    milliseconds = round(_number(value, 30_000.0))
    return context.error(
        "The user load quota of 500 requests per 5 seconds has been exceeded. Send future requests at a slower rate or "
        "raise the quota for this user. The next request from this user will not be approved for at least "
        f"{milliseconds} milliseconds.",
        "Microsoft.Exchange.Data.Directory.OverBudgetException",
        terminating=True,
    )


def _transient(context: Context, value: str) -> Failure:
    return context.error(
        value or f"Active Directory server dc01.{context.store.domain} is not available. Please retry at a later time.",
        "Microsoft.Exchange.Data.Directory.ADTransientException",
        terminating=True,
    )


def _proxy(context: Context, value: str) -> Failure:
    return context.error(
        value
        or f"Error on proxy command '{context.cmdlet}' to server {context.state.server}: Server version "
        "15.01.2507.000, Proxy method RPS: The WinRM client cannot process the request.",
        "Microsoft.Exchange.Configuration.CmdletProxyException",
        terminating=True,
    )
