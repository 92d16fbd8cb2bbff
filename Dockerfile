# syntax=docker/dockerfile:1
# One image for web, worker, beat and the lab; docker-compose.yml says which one a container is.

FROM python:3.13-slim-bookworm AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
# Kerberos sign-in is compiled against the system's headers; the final image needs only the libraries.
RUN apt-get update \
    && apt-get install -y --no-install-recommends gcc libc6-dev libkrb5-dev \
    && rm -rf /var/lib/apt/lists/*
COPY requirements/kerberos.txt /tmp/requirements.txt
RUN python -m venv /venv && /venv/bin/pip install --require-hashes -r /tmp/requirements.txt

FROM python:3.13-slim-bookworm
RUN apt-get update \
    && apt-get install -y --no-install-recommends libgssapi-krb5-2 libkrb5-3 \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --uid 10001 --no-create-home --shell /usr/sbin/nologin gatehouse
ENV PATH=/venv/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    GATEHOUSE_HOME=/data \
    GATEHOUSE_STATIC_ROOT=/app/collected \
    # A container's stop is Celery's soft shutdown: the running sync is handed back to the queue at once.
    REMAP_SIGTERM=SIGQUIT
WORKDIR /app
COPY --from=build /venv /venv
COPY manage.py ./
COPY console console
COPY connectors connectors
COPY sync sync
COPY lab lab
COPY templates templates
COPY static static
COPY locale locale
# Keys made here are thrown away with the layer's /tmp; the running container brings its own.
RUN GATEHOUSE_HOME=/tmp/build python manage.py collectstatic --noinput --verbosity 0 && rm -rf /tmp/build \
    && mkdir /data /lab && chown 10001:10001 /data /lab
USER 10001:10001
EXPOSE 8000
CMD ["granian", "--interface", "wsgi", "--host", "0.0.0.0", "--port", "8000", "--workers", "2", \
     "--blocking-threads", "4", "--no-ws", "console.wsgi:application"]
