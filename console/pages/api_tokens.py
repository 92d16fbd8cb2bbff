"""A tenant's API tokens: the list, a new one, which is shown this once, and revoking."""

from __future__ import annotations

import uuid
import zoneinfo

from django.contrib import messages
from django.core.exceptions import ValidationError
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils import timezone
from django.utils.translation import gettext as _
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods, require_POST

from console.accounts.actors import actor_of
from console.accounts.models import ApiToken
from console.accounts.permissions import Action, require
from console.accounts.tokens import token_make, token_revoke, tokens_for
from console.pages.source_forms import TokenForm, end_of
from console.pages.sources import tenant_of


@never_cache
@require_http_methods(["GET", "HEAD", "POST"])
def tokens(request: HttpRequest, public_id: uuid.UUID) -> HttpResponse:
    """The list and the form. The answer to the form holds the token's text; no other page ever does."""
    tenant = tenant_of(request, public_id)
    require(request.user, Action.SOURCE, tenant)
    form = TokenForm(request.POST if request.method == "POST" else None)
    made, text = None, ""
    if form.is_valid():
        day = form.cleaned_data["expires_on"]
        try:
            made, text = token_make(
                tenant=tenant,
                name=form.cleaned_data["name"],
                role=form.cleaned_data["role"],
                expires_at=end_of(day, zoneinfo.ZoneInfo(tenant.time_zone)) if day else None,
                actor=actor_of(request.user),
            )
        except ValidationError as error:
            for name, errors in error.error_dict.items():
                form.add_error({"expires_at": "expires_on"}.get(name, name), errors)
        else:
            form = TokenForm()
    context = {
        "tenant": tenant,
        "tokens": list(tokens_for(request.user).filter(tenant=tenant).order_by("revoked_at", "name", "pk")),
        "form": form,
        "made": made,
        "text": text,
        "now": timezone.now(),
        "address": request.build_absolute_uri("/api/v1/"),
    }
    return render(request, "pages/api_tokens.html", context, status=422 if form.errors else 200)


@require_POST
def revoke(request: HttpRequest, public_id: uuid.UUID) -> HttpResponse:
    """From now on the token opens nothing."""
    token: ApiToken = get_object_or_404(tokens_for(request.user), public_id=public_id)
    require(request.user, Action.SOURCE, token.tenant)
    token_revoke(token=token, actor=actor_of(request.user))
    messages.success(request, _("The token “%(name)s” was revoked.") % {"name": token.name})
    return redirect("api_tokens", public_id=token.tenant.public_id)
