"""Addresses of the console. Each needs a sign-in, unless its view is marked otherwise (console.accounts.middleware).

/healthz and /readyz are answered before any address is looked up (console.pages.health).
"""

from allauth.account import views as account
from django.urls import URLPattern, URLResolver, path

from console.accounts.language import language
from console.pages import connectors, devices, home, runs, tenants

urlpatterns: list[URLPattern | URLResolver] = [
    path("", home.home, name="home"),
    path("tenants/", tenants.tenants, name="tenants"),
    path("connectors/", connectors.connectors, name="connectors"),
    path("connectors/<uuid:public_id>/", connectors.connector, name="connector"),
    path("connectors/<uuid:public_id>/live/", connectors.live, name="connector_live"),
    path("connectors/<uuid:public_id>/sync/", connectors.sync, name="connector_sync"),
    path("connectors/<uuid:public_id>/schedule/", connectors.schedule, name="connector_schedule"),
    path("connectors/<uuid:public_id>/runs/", runs.runs, name="connector_runs"),
    path("runs/<uuid:public_id>/", runs.run, name="run"),
    path("runs/<uuid:public_id>/live/", runs.live, name="run_live"),
    path("runs/<uuid:public_id>/cancel/", runs.cancel, name="run_cancel"),
    path("devices/", devices.devices, name="devices"),
    path("devices/<uuid:public_id>/", devices.device, name="device"),
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
