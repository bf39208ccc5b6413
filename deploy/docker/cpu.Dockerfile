# The server for the CPU: `detr serve` on Debian, without drivers.
#
#     docker build -f deploy/docker/cpu.Dockerfile -t detr-serve:cpu .
#     docker run --rm -p 8080:8080 -v "$PWD/assets/shapes:/models:ro" detr-serve:cpu
#
# docs/deploy/containers.md explains the arguments, the caches and what was tried.

ARG RUST=1.95.0
ARG DEBIAN=bookworm
# release, or dist: smaller, and slow to build.
ARG PROFILE=release

FROM debian:${DEBIAN}-slim AS manifests
WORKDIR /context
COPY . .
RUN deploy/docker/stub-sources.sh /context /workspace

# All dependencies, in a layer that a cache can be exported with. It stays until a manifest or Cargo.lock changes;
# what another version of the layer compiled comes back through the mounted cache, so that an update of one
# dependency compiles that one. The path of the target folder is the same in all stages, since build scripts
# remember it.
FROM rust:${RUST}-slim-${DEBIAN} AS dependencies
ARG RUST
ARG PROFILE
# Wins over rust-toolchain.toml, whose formatter and linter are of no use here.
ENV RUSTUP_TOOLCHAIN=${RUST} \
    CARGO_INCREMENTAL=0 \
    CARGO_TERM_COLOR=never
WORKDIR /workspace
COPY --from=manifests /workspace .
# What was compiled of our own packages is of stubs, and newer than their real sources may be. It goes.
RUN --mount=type=cache,id=detr-registry,target=/usr/local/cargo/registry \
    --mount=type=cache,id=detr-target-cpu,target=/cache,sharing=locked \
    mkdir -p target && cp -a /cache/. target/ \
    && cargo build --locked --profile "$PROFILE" -p detr-cli --no-default-features --features flex,serve \
    && find target -path '*/.fingerprint/*' -prune \( -name 'detr*' -o -name 'workspace-hack*' \) -exec rm -r {} + \
    && cp -a target/. /cache/

FROM dependencies AS build
ARG PROFILE
# The commit that `detr --version` names.
ARG COMMIT=""
COPY crates crates
COPY configs/models configs/models
RUN --mount=type=cache,id=detr-registry,target=/usr/local/cargo/registry \
    if [ -n "$COMMIT" ]; then export DETR_COMMIT="$COMMIT"; fi \
    && cargo build --locked --profile "$PROFILE" -p detr-cli --no-default-features --features flex,serve \
    && install -D "target/$PROFILE/detr" /out/detr

FROM debian:${DEBIAN}-slim AS server
ARG COMMIT=""
ARG VERSION=0.1.0
LABEL org.opencontainers.image.title="detr-serve" \
      org.opencontainers.image.description="Object detection with DETR models over HTTP, on the CPU" \
      org.opencontainers.image.licenses="MIT OR Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${COMMIT}"
RUN useradd --uid 10001 --user-group --create-home --shell /usr/sbin/nologin detr
COPY --from=build /out/detr /usr/local/bin/detr
COPY deploy/docker/server/start.sh /usr/local/bin/detr-start
COPY deploy/docker/server/health.sh /usr/local/bin/detr-health
COPY LICENSE-MIT LICENSE-APACHE /usr/share/doc/detr/
# By number, so that Kubernetes can see that it is not root. The home folder is the one place that is written to:
# downloaded models and what the program remembers of the machine.
USER 10001:10001
ENV HOME=/home/detr
WORKDIR /home/detr
EXPOSE 8080
# The server stops taking requests, answers those that it has, and ends.
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s --retries=3 CMD ["detr-health"]
ENTRYPOINT ["detr-start"]
CMD ["serve"]
