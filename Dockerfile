# thinpool-csi in one image: Debian's Python, Debian's LVM and file-system tools, and the pinned dependencies.

FROM debian:trixie-slim AS build
RUN apt-get update \
    && apt-get install --yes --no-install-recommends python3 python3-venv \
    && rm -rf /var/lib/apt/lists/*
RUN python3 -m venv --without-pip /opt/thinpool-csi && python3 -m venv /opt/pip
COPY requirements.lock /src/
RUN /opt/pip/bin/pip --python /opt/thinpool-csi/bin/python install --no-cache-dir --no-compile \
    --require-hashes --only-binary :all: -r /src/requirements.lock
COPY requirements-dev.lock pyproject.toml README.md LICENSE /src/
COPY csi /src/csi
# The build back end comes from the development lock file; it is not in the image.
RUN /opt/pip/bin/pip install --no-cache-dir --require-hashes -r /src/requirements-dev.lock \
    && /opt/pip/bin/pip wheel --no-cache-dir --no-deps --no-build-isolation --wheel-dir /src/wheel /src \
    && /opt/pip/bin/pip --python /opt/thinpool-csi/bin/python install --no-cache-dir --no-deps /src/wheel/*.whl

FROM debian:trixie-slim
RUN apt-get update \
    && apt-get install --yes --no-install-recommends \
        btrfs-progs dmsetup e2fsprogs kmod lvm2 mount python3 thin-provisioning-tools util-linux xfsprogs \
    && rm -rf /var/lib/apt/lists/*
COPY --from=build /opt/thinpool-csi /opt/thinpool-csi
ENV PATH=/opt/thinpool-csi/bin:/usr/sbin:/usr/bin:/sbin:/bin PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1
ENTRYPOINT ["thinpool-csi"]
