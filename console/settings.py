"""Every setting of the product, read from the environment in this one place.

Defaults run everything on one machine with no server installed: SQLite and a valkey server on a private unix
socket, all data under GATEHOUSE_HOME. DATABASE_URL and REDIS_URL switch to PostgreSQL and Redis. Secrets have no
default here: they come from NAME, from a file named in NAME_FILE, or are generated once under GATEHOUSE_HOME/secrets.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import environ
from csp.constants import NONE, SELF

from console.embedded import generated_secret, socket_path, with_password

BASE_DIR = Path(__file__).resolve().parent.parent
env = environ.Env()


def _value(name: str, default: str = "") -> str:
    """NAME, or the content of the file named by NAME_FILE (how Docker and Kubernetes hand over secrets)."""
    path = os.environ.get(f"{name}_FILE")
    if not path:
        return os.environ.get(name, default)
    try:
        return Path(path).read_text(encoding="utf-8").strip()
    except OSError as error:
        raise SystemExit(
            f"gatehouse: cannot read {path}, which {name}_FILE names: {error.strerror}. "
            "Give this user access to the file, or correct the setting."
        ) from error


# --- where things lie -------------------------------------------------------------------------------------------

HOME = Path(os.environ.get("GATEHOUSE_HOME", BASE_DIR / "var")).expanduser().resolve()
PORT = int(os.environ.get("PORT", "8000"))
DEBUG = env.bool("GATEHOUSE_DEBUG", default=False)

SECRET_KEY = _value("GATEHOUSE_SECRET_KEY") or generated_secret(HOME, "django.key")
# Newest first. The first encrypts, all decrypt: prepend a key to rotate (Fernet keys, comma separated).
FIELD_KEYS = [k.strip() for k in _value("GATEHOUSE_FIELD_KEYS").split(",") if k.strip()] or [
    generated_secret(HOME, "fields.key", fernet=True)
]

ALLOWED_HOSTS = env.list("GATEHOUSE_ALLOWED_HOSTS", default=["localhost", "127.0.0.1", "[::1]"])
CSRF_TRUSTED_ORIGINS = env.list("GATEHOUSE_TRUSTED_ORIGINS", default=[])
# Behind a TLS-terminating proxy that sets X-Forwarded-Proto: cookies become secure and http is redirected.
BEHIND_TLS = env.bool("GATEHOUSE_BEHIND_TLS", default=False)
if BEHIND_TLS:
    SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")
    SECURE_SSL_REDIRECT = True
    SECURE_HSTS_SECONDS = 31_536_000
    SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = True
    # HSTS for the whole domain and for browsers' built-in lists is its owner's decision, not this program's.
    SILENCED_SYSTEM_CHECKS = ["security.W005", "security.W021"]

# How many proxies of ours a request comes through, each adding to X-Forwarded-For. By it the address is known that
# attempts to sign in are counted by; with 0 all who come through a proxy count as one, and one guesser holds up all.
TRUSTED_PROXIES = env.int("GATEHOUSE_TRUSTED_PROXIES", default=0)

# --- applications -----------------------------------------------------------------------------------------------

INSTALLED_APPS = [
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "django.contrib.humanize",
    "allauth",
    "allauth.account",
    "csp",
    "django_htmx",
    "heroicons",
    "rest_framework",
    "console.accounts",
    "console",
    "sync",
    "connectors",
]

MIDDLEWARE = [
    "console.pages.health.HealthMiddleware",
    "django.middleware.security.SecurityMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "csp.middleware.CSPMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.locale.LocaleMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    # Every page needs a sign-in unless its view says otherwise; forgetting to ask for one is not possible.
    "console.accounts.middleware.SignInRequired",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "allauth.account.middleware.AccountMiddleware",
    "django_htmx.middleware.HtmxMiddleware",
]

ROOT_URLCONF = "console.urls"
WSGI_APPLICATION = "console.wsgi.application"

TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ],
        },
    }
]

# --- data -------------------------------------------------------------------------------------------------------

# WAL and IMMEDIATE: without them concurrent writers fail with "database is locked" (see docs/architecture.md).
_SQLITE_OPTIONS = {
    "transaction_mode": "IMMEDIATE",
    "timeout": 20,
    "init_command": (
        "PRAGMA journal_mode=WAL;PRAGMA synchronous=NORMAL;PRAGMA cache_size=-20000;"
        "PRAGMA mmap_size=0;PRAGMA journal_size_limit=134217728;PRAGMA wal_autocheckpoint=16000;"
        "PRAGMA temp_store=MEMORY;"
    ),
}

_database_url = _value("DATABASE_URL")
if _database_url:
    DATABASES = {"default": environ.Env.db_url_config(_database_url)}
else:
    DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": str(HOME / "gatehouse.sqlite3")}}
if DATABASES["default"]["ENGINE"] == "django.db.backends.sqlite3":
    DATABASES["default"]["OPTIONS"] = dict(_SQLITE_OPTIONS)
    # A file in tests too: Django's in-memory database has other locks, and none of what is set above.
    DATABASES["default"]["TEST"] = {"NAME": str(HOME / "test.sqlite3")}
else:
    # Apart from the URL, so that the password alone can come from a file.
    DATABASES["default"]["PASSWORD"] = _value("DATABASE_PASSWORD") or DATABASES["default"].get("PASSWORD", "")
    DATABASES["default"]["CONN_MAX_AGE"] = 60
    DATABASES["default"]["CONN_HEALTH_CHECKS"] = True
    # Seconds. A database host that drops packets must not hold up /readyz and every page for minutes.
    DATABASES["default"].setdefault("OPTIONS", {}).setdefault("connect_timeout", 5)

DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

REDIS_URL = with_password(_value("REDIS_URL"), _value("REDIS_PASSWORD")) or f"unix://{socket_path(HOME)}"
REDIS_IS_EMBEDDED = not _value("REDIS_URL")
_redis_is_socket = REDIS_URL.startswith("unix://")

CACHES = {
    "default": {
        "BACKEND": "django.core.cache.backends.redis.RedisCache",
        "LOCATION": f"{REDIS_URL}?db=1" if _redis_is_socket else REDIS_URL,
        "KEY_PREFIX": "gatehouse",
    }
}

# --- Celery -----------------------------------------------------------------------------------------------------

CELERY_BROKER_URL = (
    f"redis+socket://{REDIS_URL.removeprefix('unix://')}?virtual_host=0" if _redis_is_socket else REDIS_URL
)
CELERY_BROKER_TRANSPORT_OPTIONS = {
    # Longer than the longest run. Recovery after a crash does not wait for it: the run row's lease does that.
    "visibility_timeout": 6 * 3600,
    "unacked_restore_interval": 10,
    "unacked_restore_throttle": 1,
    "global_keyprefix": "gatehouse-",
    # Seconds. A broker that drops packets must not hold up the page that asks for a sync. (Over a unix socket the
    # first does not apply; kombu leaves it out.) Longer than any poll of a worker, which are of one second.
    "socket_connect_timeout": 3,
    "socket_timeout": 5,
    "socket_keepalive": True,
}
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
CELERY_TASK_IGNORE_RESULT = True  # the run row is the result
CELERY_TASK_ACKS_LATE = True
CELERY_TASK_REJECT_ON_WORKER_LOST = True
CELERY_WORKER_PREFETCH_MULTIPLIER = 1
CELERY_WORKER_SOFT_SHUTDOWN_TIMEOUT = 10  # seconds
CELERY_TASK_DEFAULT_QUEUE = "gatehouse"
CELERY_TIMEZONE = "UTC"
CELERY_WORKER_HIJACK_ROOT_LOGGER = False
# Ticks, and what somebody waits for, have queues and a worker of their own: no sync ever stands in their way.
_PROMPT = {"queue": "gatehouse.now"}
CELERY_BEAT_SCHEDULE = {
    "due-syncs": {"task": "sync.dispatch_due", "schedule": 30.0, "options": {"expires": 25, **_PROMPT}},
    "recover-runs": {"task": "sync.recover_runs", "schedule": 10.0, "options": {"expires": 9, **_PROMPT}},
    "read-records": {"task": "sync.read_records_due", "schedule": 600.0, "options": {"expires": 550, **_PROMPT}},
    "recover-commands": {"task": "sync.recover_commands", "schedule": 10.0, "options": {"expires": 9, **_PROMPT}},
    "due-checks": {"task": "sync.dispatch_checks", "schedule": 10.0, "options": {"expires": 9, **_PROMPT}},
    "due-notifications": {
        "task": "sync.dispatch_notifications",
        "schedule": 10.0,
        "options": {"expires": 9, **_PROMPT},
    },
    "deadlines": {"task": "sync.deadlines", "schedule": 60.0, "options": {"expires": 50, **_PROMPT}},
    "pending-wipes": {"task": "sync.pending_wipes", "schedule": 180.0, "options": {"expires": 150, **_PROMPT}},
}
CELERY_BEAT_SCHEDULE_FILENAME = str(HOME / "run" / "beat-schedule")

# --- syncs ------------------------------------------------------------------------------------------------------

# Seconds. A run whose worker has not renewed its lease for this long is taken up again by another worker.
SYNC_LEASE_SECONDS = env.float("GATEHOUSE_LEASE_SECONDS", default=30.0)
SYNC_HEARTBEAT_SECONDS = env.float("GATEHOUSE_HEARTBEAT_SECONDS", default=5.0)
# How many times a run is started before it ends as "interrupted".
SYNC_MAX_ATTEMPTS = env.int("GATEHOUSE_MAX_ATTEMPTS", default=3)
# Seconds. The whole of one listing of Exchange; a hung server ends the run then, with a code that says so.
SYNC_LISTING_DEADLINE_SECONDS = env.float("GATEHOUSE_LISTING_DEADLINE_SECONDS", default=4 * 3600.0)
# Seconds without one byte from Exchange in the middle of a command before the command is given up.
SYNC_SILENCE_SECONDS = env.float("GATEHOUSE_SILENCE_SECONDS", default=180.0)
# Seconds that a denying command waits at most for the mail about it to leave first.
NOTIFY_BEFORE_DENIAL_SECONDS = env.float("GATEHOUSE_NOTIFY_BEFORE_DENIAL_SECONDS", default=10.0)
# Seconds that the session for single mailboxes is kept for the next change, and the longest that one lasts.
CHECKS_LINGER_SECONDS = env.float("GATEHOUSE_CHECKS_LINGER_SECONDS", default=5.0)
CHECKS_SESSION_SECONDS = env.float("GATEHOUSE_CHECKS_SESSION_SECONDS", default=300.0)

# --- Microsoft Graph --------------------------------------------------------------------------------------------

# URL of the proxy by which Graph is reached, with its credentials if it needs any; empty connects directly.
GRAPH_PROXY = _value("GATEHOUSE_GRAPH_PROXY")
# PEM file with the authorities that are trusted instead of the system's: for a proxy that opens TLS.
GRAPH_CA_FILE = env.str("GATEHOUSE_GRAPH_CA_FILE", default="")

# --- people -----------------------------------------------------------------------------------------------------

AUTH_USER_MODEL = "accounts.User"
# For the administrator made on the first start only; empty: a password is generated and shown once.
FIRST_ADMIN_PASSWORD = _value("GATEHOUSE_ADMIN_PASSWORD")
AUTHENTICATION_BACKENDS = ["allauth.account.auth_backends.AuthenticationBackend"]
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": "django.contrib.auth.password_validation.UserAttributeSimilarityValidator"},
    {"NAME": "django.contrib.auth.password_validation.MinimumLengthValidator", "OPTIONS": {"min_length": 12}},
    {"NAME": "django.contrib.auth.password_validation.CommonPasswordValidator"},
]
LOGIN_URL = "account_login"
LOGIN_REDIRECT_URL = "/"
ACCOUNT_ADAPTER = "console.accounts.adapter.AccountAdapter"
ACCOUNT_LOGIN_METHODS = {"username"}
ACCOUNT_SIGNUP_FIELDS = ["username*", "password1*"]
ACCOUNT_EMAIL_VERIFICATION = "none"
ACCOUNT_LOGOUT_ON_GET = False
ACCOUNT_SESSION_REMEMBER = False  # a session ends with the browser
ACCOUNT_FORMS = {
    "login": "console.accounts.forms.SignInForm",
    "change_password": "console.accounts.forms.PasswordForm",
}
ACCOUNT_RATE_LIMITS = {"login": "30/m/ip", "login_failed": "10/m/ip,5/5m/key"}

REST_FRAMEWORK = {
    # Nobody, for a view that names no other: console.api.views.View does.
    "DEFAULT_AUTHENTICATION_CLASSES": [],
    "DEFAULT_PERMISSION_CLASSES": ["rest_framework.permissions.IsAuthenticated"],
    "EXCEPTION_HANDLER": "console.api.errors.exception_handler",
    "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
    "DEFAULT_PARSER_CLASSES": ["rest_framework.parsers.JSONParser"],
    "UNAUTHENTICATED_USER": "django.contrib.auth.models.AnonymousUser",
}

# No page takes more than one file. Small ones stay in memory, others are kept on the disk up to a limit.
DATA_UPLOAD_MAX_NUMBER_FILES = 1
FILE_UPLOAD_HANDLERS = [
    "django.core.files.uploadhandler.MemoryFileUploadHandler",
    "console.uploads.BoundedUploadHandler",
]

SESSION_COOKIE_HTTPONLY = True
SESSION_COOKIE_SAMESITE = "Lax"
SESSION_COOKIE_NAME = "gatehouse_session"
CSRF_COOKIE_NAME = "gatehouse_csrf"
CSRF_FAILURE_VIEW = "console.pages.errors.csrf_failure"
X_FRAME_OPTIONS = "DENY"
SECURE_REFERRER_POLICY = "same-origin"
CONTENT_SECURITY_POLICY = {
    "DIRECTIVES": {
        "default-src": [NONE],
        "script-src": [SELF],
        "style-src": [SELF],
        "img-src": [SELF],
        "font-src": [SELF],
        "connect-src": [SELF],
        "form-action": [SELF],
        "frame-ancestors": [NONE],
        "base-uri": [NONE],
    }
}

# --- language, time, files --------------------------------------------------------------------------------------

LANGUAGE_CODE = "en"
LANGUAGES = [("en", "English"), ("zh-hant", "繁體中文")]
LOCALE_PATHS = [BASE_DIR / "locale"]
USE_I18N = True
USE_TZ = True
TIME_ZONE = "UTC"

STATIC_URL = "static/"
STATICFILES_DIRS = [BASE_DIR / "static"]
STATIC_ROOT = Path(os.environ.get("GATEHOUSE_STATIC_ROOT", HOME / "static"))
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "staticfiles": {"BACKEND": "whitenoise.storage.CompressedManifestStaticFilesStorage"},
}
TESTING = "pytest" in sys.modules
if TESTING or DEBUG:
    # No collectstatic before a test; the manifest is tested on its own.
    STORAGES["staticfiles"] = {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"}
    WHITENOISE_USE_FINDERS = True

# --- logging ----------------------------------------------------------------------------------------------------

# The carriers log whole payloads, credentials included, at DEBUG and INFO: they stay at WARNING whatever is asked for.
LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"line": {"format": "%(asctime)s %(levelname)s %(name)s %(message)s"}},
    "handlers": {"console": {"class": "logging.StreamHandler", "formatter": "line"}},
    "root": {"handlers": ["console"], "level": env.str("GATEHOUSE_LOG_LEVEL", default="INFO")},
    "loggers": {
        name: {"level": "WARNING"}
        for name in (
            *("pypsrp", "psrpcore", "spnego", "urllib3", "requests", "httpx", "httpcore", "kombu", "celery.beat"),
            # Two lines for every tick; what a sync did is in its run's story.
            *("celery.worker.strategy", "celery.app.trace"),
        )
    },
}
