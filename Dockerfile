# One image for all parts: `hive api` by default, or `hive relay`, `hive worker`, `hive scheduler`, `hive migrate`.
# It has no embedded servers and no secrets; DATABASE_URL, REDIS_URL, SECRET_KEY and JWT_SECRET_KEY come at run time.

FROM python:3.11-slim AS build
RUN python -m venv /poetry && /poetry/bin/pip install --no-cache-dir poetry==2.5.1
WORKDIR /hive
# The dependencies first: this layer is made anew only when they change.
COPY pyproject.toml poetry.lock poetry.toml ./
RUN /poetry/bin/poetry install --no-interaction --no-cache --compile --only main --no-root
COPY . .
RUN /poetry/bin/poetry install --no-interaction --no-cache --only main \
    && .venv/bin/python -m compileall -q app migrations

FROM python:3.11-slim
RUN useradd --uid 1001 --no-create-home --shell /usr/sbin/nologin hive \
    && install -d -o hive -g hive -m 0700 /data
COPY --from=build /hive /hive
WORKDIR /hive
ENV PATH=/hive/.venv/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    ENVIRONMENT=production \
    HOST=0.0.0.0 \
    PORT=8000 \
    HIVE_DATA_DIR=/data
USER hive
VOLUME /data
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s --retries=3 \
    CMD ["python", "-c", "import os, urllib.request as r; r.urlopen('http://127.0.0.1:' + os.environ['PORT'] + '/health', timeout=3)"]
CMD ["hive", "api"]
