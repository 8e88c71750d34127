# A host in a container: Debian with the two programs, libtorch's libraries, and a user who may write to data/ alone.
# libtorch and the programs are made here by the same targets as everywhere.
#
#   docker build -t tenon .                                         for models on the processor
#   docker build -t tenon:cuda --build-arg LIBTORCH_SET=cuda .      for NVIDIA's GPUs as well (some 4 GB more)
#
# How it is run is in docker-compose.yml and docs/operating.md. `make lint-containers` looks at it.

FROM rust:1.95.0-slim-bookworm AS tools
# The toolchain that is there, without what rust-toolchain.toml adds to it for development.
ENV RUSTUP_TOOLCHAIN=1.95.0
# Without versions: of a package Debian 12 keeps the newest alone, so one that is named would soon be gone.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends g++ make python3 python3-pip \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /tenon

# Apart from the sources, so that it comes once and not with every change of them.
FROM tools AS libtorch
ARG LIBTORCH_SET=cpu
COPY Makefile ./
COPY setup setup/
RUN make libtorch LIBTORCH_SET="$LIBTORCH_SET"

FROM libtorch AS build
COPY . .
# What cargo has downloaded and built stays for the next time, and in no layer. Stripped, the host has 39 MB and not 257.
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/tenon/target \
    make release && install -D --strip -t bin target/release/tenon target/release/tenon-host

FROM debian:12-slim
LABEL org.opencontainers.image.title="Tenon" \
      org.opencontainers.image.description="A serverless-style inference host" \
      org.opencontainers.image.licenses="Apache-2.0"
# Certificates: for a collector or a bucket behind https. libgomp and what CUDA needs come with libtorch.
# The user has a number that volumes and other systems can rely on, and owns nothing but the data folder.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends ca-certificates libstdc++6 \
    && rm -rf /var/lib/apt/lists/* \
    && groupadd --gid 10001 tenon \
    && useradd --uid 10001 --gid tenon --no-log-init --no-create-home --home-dir /srv/tenon \
        --shell /usr/sbin/nologin tenon \
    && install -d /srv/tenon/models /srv/tenon/functions \
    && install -d -o tenon -g tenon -m 700 /srv/tenon/data
# Where `tenon serve` looks beside the program's folder, as the set-up lays it out: the libraries find each other by that.
# Headers stay behind.
COPY --from=libtorch /tenon/.tenon/libtorch/site/torch/version.py /usr/local/lib/tenon/libtorch/site/torch/
COPY --from=libtorch /tenon/.tenon/libtorch/site/torch/lib /usr/local/lib/tenon/libtorch/site/torch/lib/
COPY --from=libtorch /tenon/.tenon/libtorch/site/nvidia /usr/local/lib/tenon/libtorch/site/nvidia/
COPY LICENSE /usr/local/share/doc/tenon/
COPY --from=build /tenon/bin /usr/local/bin/

USER 10001:10001
# Below here are all folders that the host and the command line use by default: models, data with the operator's token,
# functions for `--dev-functions`, and tenon.toml where one is put here.
WORKDIR /srv/tenon
VOLUME ["/srv/tenon/data", "/srv/tenon/models", "/srv/tenon/functions"]
# Reachable from outside the container, so every caller needs a key; the control plane stays on loopback, for
# `docker exec`.
ENV TENON_LISTEN=0.0.0.0:8080 \
    TENON_AUTH__REQUIRED=true
EXPOSE 8080
# Drains, which takes longer than an engine waits by itself: docker run --stop-timeout 65.
STOPSIGNAL SIGTERM
# Needs no key, and nothing that is not in the image. The host listens once its models are loaded, which at the first
# start takes up to half a minute for each.
HEALTHCHECK --interval=10s --timeout=5s --start-period=300s --retries=3 \
    CMD ["tenon", "bench", "http://127.0.0.1:8080/v2/health/live", "--clients", "1", "--requests", "1", "--timeout", "3s"]
ENTRYPOINT ["tenon"]
CMD ["serve"]
