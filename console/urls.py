"""Addresses of the console. Each needs a sign-in, unless its view is marked otherwise (console.accounts.middleware).

/healthz and /readyz are answered before any address is looked up (console.pages.health).
"""

from allauth.account import views as account
from django.urls import URLPattern, URLResolver, include, path

from console.accounts.language import language
from console.pages import (
    api_tokens,
    approvals,
    bulk,
    commands,
    connectors,
    device,
    device_acts,
    devices,
    drift,
    dry_runs,
    home,
    notifications,
    overrides,
    policy,
    policy_account,
    policy_history,
    policy_notification,
    policy_organization,
    record_imports,
    runs,
    sources,
    tenants,
)

urlpatterns: list[URLPattern | URLResolver] = [
    path("", home.home, name="home"),
    path("tenants/", tenants.tenants, name="tenants"),
    path("connectors/", connectors.connectors, name="connectors"),
    path("connectors/<uuid:public_id>/", connectors.connector, name="connector"),
    path("connectors/<uuid:public_id>/live/", connectors.live, name="connector_live"),
    path("connectors/<uuid:public_id>/sync/", connectors.sync, name="connector_sync"),
    path("connectors/<uuid:public_id>/schedule/", connectors.schedule, name="connector_schedule"),
    path("connectors/<uuid:public_id>/observe/", connectors.observe, name="connector_observe"),
    path("connectors/<uuid:public_id>/runs/", runs.runs, name="connector_runs"),
    path("runs/<uuid:public_id>/", runs.run, name="run"),
    path("runs/<uuid:public_id>/live/", runs.live, name="run_live"),
    path("runs/<uuid:public_id>/cancel/", runs.cancel, name="run_cancel"),
    path("runs/<uuid:public_id>/dry/", dry_runs.dry_run, name="dry_run"),
    path("runs/<uuid:public_id>/dry/csv/", dry_runs.dry_run_csv, name="dry_run_csv"),
    path("devices/", devices.devices, name="devices"),
    path("devices/bulk/", bulk.bulk, name="device_bulk"),
    path("devices/<uuid:public_id>/", device.device, name="device"),
    path("devices/<uuid:public_id>/override/end/", device_acts.override_end, name="device_override_end"),
    path("devices/<uuid:public_id>/override/<slug:level>/", device_acts.override, name="device_override"),
    path("devices/<uuid:public_id>/evaluate/", device_acts.evaluate, name="device_evaluate"),
    path("devices/<uuid:public_id>/statistics/", device_acts.statistics, name="device_statistics"),
    path("devices/<uuid:public_id>/link/", device_acts.link, name="device_link"),
    path("devices/<uuid:public_id>/choice/clear/", device_acts.choice_clear, name="device_choice_clear"),
    path("devices/<uuid:public_id>/wipe/cancel/", device_acts.wipe_cancel, name="device_wipe_cancel"),
    path("devices/<uuid:public_id>/destroy/<slug:act>/", device_acts.destroy, name="device_destroy"),
    path("approvals/", approvals.approvals, name="approvals"),
    path("approvals/<uuid:public_id>/", approvals.approval, name="approval"),
    path("approvals/<uuid:public_id>/csv/", approvals.approval_csv, name="approval_csv"),
    path("drift/", drift.drifts, name="drifts"),
    path("drift/<uuid:public_id>/", drift.drift, name="drift"),
    path("overrides/", overrides.overrides, name="overrides"),
    path("overrides/end/", overrides.end, name="overrides_end"),
    path("commands/", commands.commands, name="commands"),
    path("commands/csv/", commands.commands_csv, name="commands_csv"),
    path("commands/<uuid:public_id>/", commands.command, name="command"),
    path("access/", policy.policies, name="policies"),
    path("access/<uuid:public_id>/", policy.tenant_policy, name="tenant_policy"),
    path("access/<uuid:public_id>/groups/", policy.groups, name="tenant_policy_groups"),
    path("access/<uuid:public_id>/history/", policy_history.tenant_history, name="tenant_policy_history"),
    path("access/versions/<uuid:public_id>/roll-back/", policy_history.roll_back, name="policy_roll_back"),
    path("organizations/<uuid:public_id>/access/", policy_organization.organization_policy, name="organization_policy"),
    path(
        "organizations/<uuid:public_id>/access/history/",
        policy_history.organization_history,
        name="organization_policy_history",
    ),
    path(
        "organizations/<uuid:public_id>/notification/",
        policy_notification.organization_notification,
        name="organization_notification",
    ),
    path(
        "organizations/<uuid:public_id>/notification/preview/",
        policy_notification.preview,
        name="notification_preview",
    ),
    path("organizations/<uuid:public_id>/notification/test/", policy_notification.test_mail, name="notification_test"),
    path(
        "organizations/<uuid:public_id>/notification/account/",
        policy_account.notification_account,
        name="notification_account",
    ),
    path(
        "organizations/<uuid:public_id>/notification/account/test/",
        policy_account.notification_account_try,
        name="notification_account_test",
    ),
    path("notifications/", notifications.notifications, name="notifications"),
    path("notifications/<uuid:public_id>/retry/", notifications.retry, name="notification_retry"),
    path("sources/", sources.sources, name="sources"),
    path("sources/<uuid:public_id>/", sources.source, name="source"),
    path("sources/<uuid:public_id>/configure/", sources.configure, name="source_configure"),
    path("sources/<uuid:public_id>/test/", sources.verify, name="source_verify"),
    path("sources/<uuid:public_id>/read/", sources.read, name="source_read"),
    path("sources/<uuid:public_id>/former/", sources.others, name="source_others"),
    path("sources/<uuid:public_id>/records/", sources.records, name="source_records"),
    path("sources/<uuid:public_id>/import/", record_imports.upload, name="source_upload"),
    path("imports/<uuid:public_id>/", record_imports.preview, name="record_import"),
    path("imports/<uuid:public_id>/apply/", record_imports.apply, name="record_import_apply"),
    path("sources/<uuid:public_id>/tokens/", api_tokens.tokens, name="api_tokens"),
    path("tokens/<uuid:public_id>/revoke/", api_tokens.revoke, name="api_token_revoke"),
    path("api/", include("console.api.urls")),
    path("language/", language, name="language"),
    # Of the sign-in library only what is used: no sign-up, no mail addresses, no reset by mail.
    path("accounts/login/", account.login, name="account_login"),
    path("accounts/logout/", account.logout, name="account_logout"),
    path("accounts/inactive/", account.account_inactive, name="account_inactive"),
    path("accounts/signup/", account.signup, name="account_signup"),
    path("accounts/password/", account.password_change, name="account_change_password"),
]

handler400 = "console.pages.errors.bad_request"
handler403 = "console.pages.errors.refused"
handler404 = "console.pages.errors.not_found"
handler429 = "console.pages.errors.too_many"
handler500 = "console.pages.errors.broken"
