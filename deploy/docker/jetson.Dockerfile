# Detection on a Jetson Orin with JetPack 6: the small program `detr-infer`.
#
#     docker build -f deploy/docker/jetson.Dockerfile -t detr-infer:jetson .
#     docker run --rm --runtime nvidia --group-add video -v "$PWD:/data" detr-infer:jetson \
#         --backend cuda --model assets/shapes --json assets/shapes.png
#
# Build it on the device, or on another machine with 64-bit Arm. The tags are those of L4T r36, JetPack 6:
# r36.4.0 is the newest tag of l4t-jetpack for it, with CUDA 12.6, and runs on every r36.x, JetPack 6.0 to 6.2;
# l4t-cuda:12.6.11-runtime is the same release without the compilers. JetPack 5 is L4T r35, with CUDA 11.4 and an
# older C library: change both tags and CUDA_DRIVER for it.
# docs/deploy/containers.md explains the caches and what was tried.

ARG RUST=1.95.0
ARG DEBIAN=bookworm
# release, or dist: smaller, and slow to build.
ARG PROFILE=release
ARG JETPACK=nvcr.io/nvidia/l4t-jetpack:r36.4.0
ARG RUNTIME=nvcr.io/nvidia/l4t-cuda:12.6.11-runtime

FROM debian:${DEBIAN}-slim AS manifests
WORKDIR /context
COPY . .
RUN deploy/docker/stub-sources.sh /context /workspace

FROM rust:${RUST}-slim-${DEBIAN} AS rust

# As in cpu.Dockerfile, but on JetPack's own Ubuntu 22.04, whose C library the device has.
FROM ${JETPACK} AS dependencies
ARG RUST
ARG PROFILE
# Of the Ubuntu that is part of the JetPack
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends ca-certificates g++ libzstd-dev zlib1g-dev \
    && rm -rf /var/lib/apt/lists/*
COPY --from=rust /usr/local/rustup /usr/local/rustup
COPY --from=rust /usr/local/cargo /usr/local/cargo
# nvcc tells cudarc the version of CUDA.
# Burn's LLVM is unpacked below XDG_DATA_HOME.
ENV RUSTUP_HOME=/usr/local/rustup \
    CARGO_HOME=/usr/local/cargo \
    PATH=/usr/local/cargo/bin:/usr/local/cuda/bin:${PATH} \
    RUSTUP_TOOLCHAIN=${RUST} \
    XDG_DATA_HOME=/usr/local/share \
    CARGO_INCREMENTAL=0 \
    CARGO_TERM_COLOR=never
WORKDIR /workspace
COPY --from=manifests /workspace .
RUN --mount=type=cache,id=detr-registry,target=/usr/local/cargo/registry \
    --mount=type=cache,id=detr-llvm,target=/usr/local/share/tracel \
    --mount=type=cache,id=detr-target-jetson,target=/cache,sharing=locked \
    mkdir -p target && cp -a /cache/. target/ \
    && cargo build --locked --profile "$PROFILE" -p detr-infer --no-default-features --features flex,cuda,fusion,autotune \
    && find target -path '*/.fingerprint/*' -prune \( -name 'detr*' -o -name 'workspace-hack*' \) -exec rm -r {} + \
    && cp -a target/. /cache/

FROM dependencies AS build
ARG PROFILE
# The commit that `detr-infer --version` names.
ARG COMMIT=""
COPY crates crates
COPY configs/models configs/models
RUN --mount=type=cache,id=detr-registry,target=/usr/local/cargo/registry \
    --mount=type=cache,id=detr-llvm,target=/usr/local/share/tracel \
    if [ -n "$COMMIT" ]; then export DETR_COMMIT="$COMMIT"; fi \
    && cargo build --locked --profile "$PROFILE" -p detr-infer --no-default-features --features flex,cuda,fusion,autotune \
    && install -D "target/$PROFILE/detr-infer" /out/detr-infer \
    && install -D -m 0644 /usr/local/cuda/nvvm/libdevice/libdevice.10.bc /out/libdevice.10.bc

FROM ${RUNTIME} AS infer
ARG COMMIT=""
ARG VERSION=0.1.0
LABEL org.opencontainers.image.title="detr-infer" \
      org.opencontainers.image.description="Object detection with DETR models on a Jetson" \
      org.opencontainers.image.licenses="MIT OR Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${COMMIT}"
# The device files of the GPU belong to the group `video`.
RUN useradd --uid 10001 --user-group --create-home --groups video --shell /usr/sbin/nologin detr
COPY --from=build /out/libdevice.10.bc /usr/local/cuda/nvvm/libdevice/libdevice.10.bc
COPY --from=build /out/detr-infer /usr/local/bin/detr-infer
COPY LICENSE-MIT LICENSE-APACHE /usr/share/doc/detr/
# JetPack 6 keeps the driver here; the runtime mounts it.
ENV NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=all \
    LD_LIBRARY_PATH=/usr/lib/aarch64-linux-gnu/nvidia:/usr/local/cuda/lib64 \
    CUDA_PATH=/usr/local/cuda \
    HOME=/home/detr
USER 10001
WORKDIR /data
STOPSIGNAL SIGTERM
# A command, not a service: it ends when its pictures are done.
HEALTHCHECK NONE
ENTRYPOINT ["detr-infer"]
CMD ["--help"]
