# What `duress run --world docker` runs its containers from: Python, and an account for PostgreSQL, which refuses root.
# duress, what it depends on and the scenario are not in it: they are mounted from where `duress` was called, read-only.
#
#   docker build -t duress:python3.11 --build-arg BASE=python:3.11-slim .
ARG BASE=python:3.11-slim
FROM ${BASE}
RUN python3 --version && id nobody
LABEL org.opencontainers.image.title="duress" org.opencontainers.image.licenses="Apache-2.0"
