"""One entry of the catalogue, and the sentences that many entries share."""

from __future__ import annotations

from dataclasses import dataclass

from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _


@dataclass(frozen=True, slots=True)
class Problem:
    """title: a heading. happened, kept, remedy: whole sentences, with the placeholders of connectors.problems."""

    title: str | Promise
    happened: str | Promise
    kept: str | Promise
    remedy: str | Promise


# True of every step that fails: a command that may have been carried out has a code of its own (outcome_unknown), and
# only a complete listing marks devices as gone.
KEPT = _(
    "What failed changed nothing in Exchange. Commands that were carried out before it, if any, are in the run's "
    "journal and stay in force; all other phones keep the access they have. The devices of the last successful sync "
    "are still shown; none was marked as gone."
)
# The same, for what usually goes away by itself.
KEPT_RETRIED = _(
    "What failed changed nothing in Exchange. Commands that were carried out before it, if any, are in the run's "
    "journal and stay in force; all other phones keep the access they have. The devices of the last successful sync "
    "are still shown; none was marked as gone. The next scheduled sync tries again."
)
# For a run that was cut off from outside, perhaps while a command was under way.
KEPT_JOURNAL = _(
    "Every command is in the run's journal before it is sent. What was carried out stays in force; what was under way "
    "is looked up in Exchange before anything else is done about it, and nothing is done twice. Devices stay as they "
    "were last seen; none was marked as gone."
)
