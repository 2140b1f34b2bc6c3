# One image for every process; docker-compose.yml says which one a container runs.
FROM python:3.11-slim-bookworm
WORKDIR /app
ENV PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
COPY requirements.lock pyproject.toml README.md LICENSE ./
RUN pip install --no-cache-dir --require-hashes --requirement requirements.lock
COPY offerloop offerloop
COPY contextual_bandit contextual_bandit
COPY adapters adapters
COPY evaluation evaluation
COPY decision_service decision_service
COPY learner learner
COPY simulator simulator
COPY migrations migrations
COPY loadtest loadtest
COPY benchmarks benchmarks
RUN pip install --no-cache-dir --no-deps --no-build-isolation --editable . \
    && useradd --system --uid 10001 offerloop && mkdir -p /data && chown offerloop /data
USER offerloop
ENV OFFERLOOP_DATA_DIR=/data
EXPOSE 8080
ENTRYPOINT ["offerloop"]
CMD ["serve", "--host", "0.0.0.0"]
