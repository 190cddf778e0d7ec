# esmcls in a container: on the CPU (docker build .), or with CUDA (docker build --build-arg COMPUTE=cuda .).
# docs/containers.md says how to run it; tests/test_containers.py looks at this file where there is no Docker.
FROM python:3.12.11-slim-bookworm AS build
ARG COMPUTE=cpu
ARG EXTRAS=go,hf,profile
WORKDIR /src
COPY . .
# PyTorch's build on PyPI is the one with CUDA, whose libraries it brings; the CPU build is in an index of its own.
RUN set -eu; \
    case "$COMPUTE" in \
        cpu) set -- --extra-index-url https://download.pytorch.org/whl/cpu ;; \
        cuda) set -- ;; \
        *) echo "COMPUTE is cpu or cuda, not $COMPUTE" >&2; exit 2 ;; \
    esac; \
    python -m venv /opt/esmcls; \
    /opt/esmcls/bin/pip install --no-cache-dir --constraint constraints.txt "$@" ".[$EXTRAS]"

FROM python:3.12.11-slim-bookworm
# hadolint ignore=DL3008
RUN set -eu; \
    apt-get update; \
    apt-get install --yes --no-install-recommends libgomp1 mmseqs2; \
    rm -rf /var/lib/apt/lists/*; \
    useradd --create-home --uid 1000 esmcls; \
    install --directory --owner esmcls --group esmcls /work
COPY --from=build /opt/esmcls /opt/esmcls
ENV PATH=/opt/esmcls/bin:$PATH
USER esmcls
WORKDIR /work
ENTRYPOINT ["esmcls"]
CMD ["--help"]
