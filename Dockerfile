# syntax=docker/dockerfile:1
# Two stages: one that installs from the lock file, and one that holds nothing but Python and what was installed.
ARG PYTHON=3.13

FROM python:${PYTHON}-slim AS builder
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
RUN python -m venv /opt/venv
WORKDIR /build

# The lock first: a change of our own code then reuses this layer. Wheels only, since a slim image has no compiler.
# This one has the packages of both buffers as well.
COPY requirements-image.lock ./
RUN /opt/venv/bin/pip install --require-hashes --only-binary=:all: --requirement requirements-image.lock

# No isolation: the build tools are the locked ones, and nothing unlisted is fetched. They are not needed later.
COPY pyproject.toml README.md LICENSE ./
COPY src src
RUN /opt/venv/bin/pip install --no-deps --no-build-isolation . \
    && /opt/venv/bin/pip uninstall --yes hatchling editables packaging pathspec pluggy tomlkit \
        trove-classifiers pip

FROM python:${PYTHON}-slim
RUN groupadd --gid 10001 churn-radar \
    && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /data --shell /usr/sbin/nologin churn-radar \
    && install --directory --owner=10001 --group=10001 --mode=0700 /data
COPY --from=builder /opt/venv /opt/venv

# Byte code was compiled when the packages were installed; at run time only /data is written.
ENV PATH=/opt/venv/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    CHURN_RADAR_DATABASE_URL=sqlite:////data/churn_radar.db

USER 10001:10001
# Relative paths of settings, such as jsonl:briefs.jsonl, land in the volume.
WORKDIR /data
VOLUME /data
EXPOSE 8080

# The empty ProxyHandler: with HTTP_PROXY set, urllib would ask the proxy for this container's own loopback.
HEALTHCHECK --interval=30s --timeout=5s --start-period=20s --retries=3 \
    CMD ["python", "-c", "import os, urllib.request as u; u.build_opener(u.ProxyHandler({})).open('http://127.0.0.1:' + os.environ.get('CHURN_RADAR_PORT', '8080') + '/healthz', timeout=4)"]

ENTRYPOINT ["churn-radar"]
CMD ["serve"]
