"""Importing a CSV file of device records: upload, preview, import."""

from __future__ import annotations

import uuid

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from connectors.sources import source_of
from console.accounts.actors import actor_of
from console.accounts.permissions import Action, require
from console.pages.source_forms import UploadForm
from console.pages.sources import tenant_of
from sync.models import CsvImport
from sync.records.pushed import SourceConflictError
from sync.records.pushed_rows import COMPLIANCE, FIELDS, REQUIRED
from sync.records.record_csv import BYTE_LIMIT, ROW_LIMIT, CsvError
from sync.records.record_import import (
    BadRowsError,
    ImportOverError,
    import_apply,
    import_prepare,
    import_preview,
    imports_for,
)

SEPARATORS = {",": gettext_lazy("comma"), ";": gettext_lazy("semicolon"), "\t": gettext_lazy("tab")}


@require_http_methods(["GET", "HEAD", "POST"])
def upload(request: HttpRequest, public_id: uuid.UUID) -> HttpResponse:
    """Choose a file. It is kept for an hour; nothing is imported yet."""
    tenant = tenant_of(request, public_id)
    require(request.user, Action.RECORDS, tenant)
    is_sent = request.method == "POST"
    form = UploadForm(request.POST if is_sent else None, request.FILES if is_sent else None)
    if form.is_valid():
        file = form.cleaned_data["file"]
        try:
            kept = import_prepare(
                tenant=tenant, file=file, size=file.size, file_name=file.name or "", actor=actor_of(request.user)
            )
        except (CsvError, SourceConflictError) as error:
            form.add_error("file", str(error))
        else:
            return redirect("record_import", public_id=kept.public_id)
    context = {
        "tenant": tenant,
        "source": source_of(tenant),
        "form": form,
        "fields": [(name, name in REQUIRED) for name in FIELDS],
        "states": COMPLIANCE,
        "row_limit": ROW_LIMIT,
        "megabytes": BYTE_LIMIT // 1024 // 1024,
    }
    return render(request, "pages/source_upload.html", context, status=422 if form.errors else 200)


def _kept(request: HttpRequest, public_id: uuid.UUID) -> CsvImport:
    kept = get_object_or_404(imports_for(request.user), public_id=public_id)
    require(request.user, Action.RECORDS, kept.tenant)
    return kept


@require_safe
def preview(request: HttpRequest, public_id: uuid.UUID) -> HttpResponse:
    """What importing the file would do."""
    kept = _kept(request, public_id)
    try:
        shown = import_preview(kept)
    except ImportOverError as error:
        messages.warning(request, str(error))
        return redirect("source_upload", public_id=kept.tenant.public_id)
    separator = shown.heading.separator if shown.heading else ","
    context = {
        "tenant": kept.tenant,
        "kept": kept,
        "preview": shown,
        "separator": SEPARATORS.get(separator, separator),
    }
    return render(request, "pages/source_import.html", context)


@require_POST
def apply(request: HttpRequest, public_id: uuid.UUID) -> HttpResponse:
    """Import exactly the file that was shown."""
    kept = _kept(request, public_id)
    try:
        report = import_apply(
            kept=kept, leave_out_bad=request.POST.get("leave_out_bad") == "on", actor=actor_of(request.user)
        )
    except BadRowsError:
        messages.warning(request, _("Nothing was imported: tick that the bad rows are left out, or mend the file."))
        return redirect("record_import", public_id=public_id)
    except (ImportOverError, SourceConflictError) as error:
        messages.warning(request, str(error))
        return redirect("source_upload", public_id=kept.tenant.public_id)
    messages.success(
        request,
        _(
            "Imported: %(new)d new, %(changed)d changed, %(unchanged)d as they were. "
            "%(mailboxes)d mailboxes are checked now."
        )
        % {
            "new": report.created,
            "changed": report.changed,
            "unchanged": report.unchanged,
            "mailboxes": report.mailboxes,
        },
    )
    return redirect("source", public_id=kept.tenant.public_id)
