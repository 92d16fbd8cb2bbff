"""What people read for an error code: what happened, what was not lost, what to do.

One entry a code, for every code that can end a run; sentences name values as %(placeholders)s, which the error's
params fill. Rendering never fails: a value that is missing is worded around, an unknown code has an entry of its own.
The tree of the errors themselves stands in connectors/exchange/errors.py.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from django.utils.functional import Promise
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext

from connectors.problems import answers, commands, graph, mail, network, runs, sign_in
from connectors.problems.entry import Problem

__all__ = ["PLACEHOLDERS", "PROBLEMS", "Problem", "RenderedProblem", "problem"]

PROBLEMS: Mapping[str, Problem] = MappingProxyType(
    {
        **network.PROBLEMS,
        **sign_in.PROBLEMS,
        **answers.PROBLEMS,
        **commands.PROBLEMS,
        **runs.PROBLEMS,
        **mail.PROBLEMS,
        **graph.PROBLEMS,
    }
)

# What a sentence may name, and how it is worded when the error did not say.
PLACEHOLDERS: Mapping[str, str | Promise] = MappingProxyType(
    {
        "server": gettext_lazy("the Exchange server"),
        "mail_server": gettext_lazy("the mail server"),
        "graph_server": gettext_lazy("Microsoft Graph"),
        "permission": gettext_lazy("that its documentation names"),
        "cmdlet": gettext_lazy("the command"),
        "parameter": gettext_lazy("a parameter"),
        "site": gettext_lazy("its site"),
        "attempts": gettext_lazy("several"),
        "wait": gettext_lazy("some time"),
        "person": gettext_lazy("someone"),
    }
)


# The placeholder with which a sentence begins.
_FIRST = re.compile(r"%\((\w+)\)s")


@dataclass(frozen=True, slots=True)
class RenderedProblem:
    """A problem in the reader's language. `detail` quotes the other side (foreign text), "" when it said nothing."""

    code: str
    title: str
    happened: str
    kept: str
    remedy: str
    detail: str = ""


def problem(code: str, params: Mapping[str, object] | None = None) -> RenderedProblem:
    """The sentences of `code` in the active language, with what `params` names filled in.

    params: as ExchangeError.params or SyncRun.error_params give them; anything may be missing. Never raises.
    """
    given = dict(params or {})
    values = {name: str(given.get(name) or fallback) for name, fallback in PLACEHOLDERS.items()}
    # Mail goes by servers that need not be Exchange's.
    values["mail_server"] = str(given.get("server") or PLACEHOLDERS["mail_server"])
    values["graph_server"] = str(given.get("server") or PLACEHOLDERS["graph_server"])
    if wait := _seconds(given.get("retry_after")):
        values["wait"] = wait
    entry = PROBLEMS.get(code) or PROBLEMS["internal_error"]
    return RenderedProblem(
        code=code,
        title=_filled(entry.title, values),
        happened=_filled(entry.happened, values),
        kept=_filled(entry.kept, values),
        remedy=_filled(entry.remedy, values),
        detail=_detail(code, given),
    )


def _filled(sentence: str | Promise, values: Mapping[str, str]) -> str:
    """With the values in it. One that is worded around begins a sentence with a capital; a name stays as it is."""
    text = str(sentence) % values
    first = _FIRST.match(str(sentence))
    if first is not None and values[first[1]] == str(PLACEHOLDERS[first[1]]):
        text = text[:1].upper() + text[1:]
    return text


def _seconds(value: object) -> str:
    """A wait in words, rounded up to whole seconds; "" for what is no number of seconds."""
    if not isinstance(value, int | float) or not math.isfinite(value) or value <= 0:
        return ""
    count = math.ceil(value)
    return ngettext("%(count)d second", "%(count)d seconds", count) % {"count": count}


def _detail(code: str, params: Mapping[str, object]) -> str:
    parts = []
    if text := params.get("remote_text"):
        said = _("The server said: “%(text)s”") if code.startswith("mail_") else _("Exchange said: “%(text)s”")
        if code.startswith("graph_"):
            said = _("Microsoft said: “%(text)s”")
        parts.append(said % {"text": text})
    if code.startswith("graph_") and params.get("request_id"):
        parts.append(_("Microsoft's support finds it as request %(request)s.") % {"request": params["request_id"]})
    elif request := params.get("request_id"):
        # The key under which Exchange's own logs hold the request.
        parts.append(_("Request %(request)s in Exchange's logs.") % {"request": request})
    return " ".join(parts)
