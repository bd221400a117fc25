# The image in which a cluster runs gemtune (docs/scale.md):
#   docker build --tag REGISTRY/gemtune:0.1.0 .
FROM python:3.11-slim-bookworm

# g++ compiles the kernels on the machine that they run on; libgomp is what their threads need.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends g++ libgomp1 \
    && rm -rf /var/lib/apt/lists/*

WORKDIR /opt/gemtune
COPY constraints.txt ./
# PyTorch by itself, as in the Makefile: a layer of gigabytes that a change of gemtune leaves as it is.
# hadolint ignore=DL3013
RUN pip install --no-cache-dir --constraint constraints.txt torch

# The version of Ray is that of `rayVersion` in a RayJob.
ARG RAY=2.60.0
COPY pyproject.toml README.md LICENSE ./
COPY src ./src
COPY recipes ./recipes
COPY examples ./examples
RUN pip install --no-cache-dir --constraint constraints.txt "ray[default]==${RAY}" \
    ".[embedded,hub,qlora,sql,postgres,mysql,tensorboard,wandb,trackio,gguf,onnx,serve,documents,gemini]"

# SkyPilot wants root: --build-arg USER=0
ARG USER=1000
RUN useradd --uid 1000 --create-home gemtune \
    && mkdir --parents /cache /work \
    && chown 1000:1000 /cache /work
ENV HF_HOME=/cache/huggingface GEMTUNE_CACHE=/cache/gemtune RAY_USAGE_STATS_ENABLED=0 PYTHONUNBUFFERED=1
VOLUME /cache
WORKDIR /work
USER ${USER}
ENTRYPOINT ["gemtune"]
