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


# True of every run that reads: it writes nothing to Exchange, and only a complete listing marks devices as gone.
KEPT = _(
    "Gatehouse changed nothing in Exchange, and phones keep the access they have. The devices of the last successful "
    "sync are still shown; none was marked as gone."
)
# The same, for what usually goes away by itself.
KEPT_RETRIED = _(
    "Gatehouse changed nothing in Exchange, and phones keep the access they have. The devices of the last successful "
    "sync are still shown; none was marked as gone. The next scheduled sync tries again."
)
