# NVIDIA GPUs: the server, and the training, which is the same program.
#
#     docker build -f deploy/docker/cuda.Dockerfile --target server -t detr-serve:cuda .
#     docker build -f deploy/docker/cuda.Dockerfile --target train -t detr-train:cuda .
#     docker run --rm --gpus all -p 8080:8080 -v "$PWD/assets/shapes:/models:ro" detr-serve:cuda
#
# The driver comes from the host, by NVIDIA's container toolkit. Of CUDA itself one file is needed: libdevice, the
# mathematical functions that Burn's compiler links into its kernels.
# docs/deploy/containers.md explains the arguments, the caches and what was tried.

ARG RUST=1.95.0
ARG DEBIAN=bookworm
# release, or dist: smaller, and slow to build.
ARG PROFILE=release
# The oldest CUDA that the driver has to support, in the four spellings of those who ask for it.
ARG CUDA=12.8.1
ARG CUDA_PACKAGES=12-8
ARG CUDA_DRIVER=12.8
ARG CUDARC=12080

FROM nvidia/cuda:${CUDA}-base-ubuntu22.04 AS libdevice
ARG CUDA_PACKAGES
# The version is that of CUDA, in the name of the package.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends "cuda-nvvm-${CUDA_PACKAGES}" \
    && rm -rf /var/lib/apt/lists/* \
    && find /usr/local/ -name libdevice.10.bc -exec install -D -m 0644 {} /out/libdevice.10.bc \; \
    && test -s /out/libdevice.10.bc

FROM debian:${DEBIAN}-slim AS manifests
WORKDIR /context
COPY . .
RUN deploy/docker/stub-sources.sh /context /workspace

# As in cpu.Dockerfile, and LLVM beside it, which a build script of Burn's downloads.
FROM rust:${RUST}-slim-${DEBIAN} AS dependencies
ARG RUST
ARG CUDARC
ARG PROFILE
# C++'s library, and two that LLVM may ask for, of the Debian that DEBIAN names.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends g++ libzstd-dev zlib1g-dev \
    && rm -rf /var/lib/apt/lists/*
# There is no nvcc to ask for CUDA's version, which decides what functions of the driver are used.
# Burn's LLVM is unpacked below XDG_DATA_HOME.
ENV RUSTUP_TOOLCHAIN=${RUST} \
    CUDARC_CUDA_VERSION=${CUDARC} \
    XDG_DATA_HOME=/usr/local/share \
    CARGO_INCREMENTAL=0 \
    CARGO_TERM_COLOR=never
WORKDIR /workspace
COPY --from=manifests /workspace .
RUN --mount=type=cache,id=detr-registry,target=/usr/local/cargo/registry \
    --mount=type=cache,id=detr-llvm,target=/usr/local/share/tracel \
    --mount=type=cache,id=detr-target-cuda,target=/cache,sharing=locked \
    mkdir -p target && cp -a /cache/. target/ \
    && cargo build --locked --profile "$PROFILE" -p detr-cli --no-default-features --features flex,cuda,fusion,autotune,serve \
    && find target -path '*/.fingerprint/*' -prune \( -name 'detr*' -o -name 'workspace-hack*' \) -exec rm -r {} + \
    && cp -a target/. /cache/

FROM dependencies AS build
ARG PROFILE
# The commit that `detr --version` names.
ARG COMMIT=""
COPY crates crates
COPY configs/models configs/models
RUN --mount=type=cache,id=detr-registry,target=/usr/local/cargo/registry \
    --mount=type=cache,id=detr-llvm,target=/usr/local/share/tracel \
    if [ -n "$COMMIT" ]; then export DETR_COMMIT="$COMMIT"; fi \
    && cargo build --locked --profile "$PROFILE" -p detr-cli --no-default-features --features flex,cuda,fusion,autotune,serve \
    && install -D "target/$PROFILE/detr" /out/detr

FROM debian:${DEBIAN}-slim AS runtime
ARG COMMIT=""
ARG VERSION=0.1.0
ARG CUDA_DRIVER
LABEL org.opencontainers.image.licenses="MIT OR Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${COMMIT}"
RUN useradd --uid 10001 --user-group --create-home --shell /usr/sbin/nologin detr
COPY --from=libdevice /out/libdevice.10.bc /usr/local/cuda/nvvm/libdevice/libdevice.10.bc
COPY --from=build /out/detr /usr/local/bin/detr
COPY LICENSE-MIT LICENSE-APACHE /usr/share/doc/detr/
# The toolkit mounts the driver and nvidia-smi, and refuses a driver that is too old before the program starts.
ENV NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility \
    NVIDIA_REQUIRE_CUDA="cuda>=${CUDA_DRIVER}" \
    CUDA_PATH=/usr/local/cuda \
    HOME=/home/detr
STOPSIGNAL SIGTERM

FROM runtime AS train
LABEL org.opencontainers.image.title="detr-train" \
      org.opencontainers.image.description="Training of DETR models on NVIDIA GPUs"
# The recipes look for data and weights two folders above themselves: /training/coco.
COPY configs/train /training/configs/train
# A volume takes the owner of the folder that it is mounted on.
RUN install -d -o 10001 -g 10001 /training /training/coco /training/runs
USER 10001:10001
WORKDIR /training
# A run is watched through its status.json; a process that is silent for an hour may be at work.
HEALTHCHECK NONE
ENTRYPOINT ["detr"]
CMD ["train", "--help"]

FROM runtime AS server
LABEL org.opencontainers.image.title="detr-serve" \
      org.opencontainers.image.description="Object detection with DETR models over HTTP, on NVIDIA GPUs"
COPY deploy/docker/server/start.sh /usr/local/bin/detr-start
COPY deploy/docker/server/health.sh /usr/local/bin/detr-health
USER 10001:10001
WORKDIR /home/detr
EXPOSE 8080
# The kernels are compiled before the server is ready, which takes minutes the first time.
HEALTHCHECK --interval=10s --timeout=5s --start-period=300s --retries=3 CMD ["detr-health"]
ENTRYPOINT ["detr-start"]
CMD ["serve", "--backend", "cuda"]
