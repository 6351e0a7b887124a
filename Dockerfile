# CPU:  docker build -t transformers_framework .
# CUDA: docker build -t transformers_framework:cuda --build-arg DEVICE=cuda .
# How to use it: docs/install.md
ARG PYTHON=3.12

FROM python:${PYTHON}-slim AS build
ARG DEVICE=cpu
ARG EXTRAS=metrics,plots,s3
ENV PIP_CACHE_DIR=/pip
WORKDIR /source
COPY setup.py pyproject.toml constraints.txt README.md LICENSE ./
COPY examples examples
COPY transformers_framework transformers_framework
# torch from PyPI contains CUDA; PyTorch's own index has a smaller one without
RUN --mount=type=cache,target=/pip \
    if [ "$DEVICE" = cpu ]; then export PIP_EXTRA_INDEX_URL=https://download.pytorch.org/whl/cpu; fi; \
    python -m venv /opt/venv \
    && /opt/venv/bin/pip install --constraint constraints.txt ".[$EXTRAS]"

FROM python:${PYTHON}-slim
COPY --from=build /opt/venv /opt/venv
# the home folder can be written by any user, so that --user can be that of the host
ENV PATH=/opt/venv/bin:$PATH \
    HOME=/cache \
    HF_HOME=/cache/huggingface
RUN useradd --uid 1000 --home-dir /cache trainer \
    && mkdir /cache /data \
    && chmod 1777 /cache /data
WORKDIR /data
VOLUME ["/cache", "/data"]
USER 1000
ENTRYPOINT ["transformers_framework"]
CMD ["--help"]
