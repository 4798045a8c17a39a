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
    && /opt/pip/bin/pip --python /opt/thinpool-csi/bin/python install --no-cache-dir --no-compile --no-deps \
        /src/wheel/*.whl
# The asynchronous twin of the Kubernetes client, and what only that needs.
RUN /opt/pip/bin/pip --python /opt/thinpool-csi/bin/python uninstall --yes --quiet \
        aiohappyeyeballs aiohttp aiohttp-retry aiosignal frozenlist multidict propcache yarl \
    && rm -r /opt/thinpool-csi/lib/python3*/site-packages/kubernetes/aio
# The root file system is read-only: what is imported is compiled here, and nothing else. yaml is imported when needed.
RUN /opt/thinpool-csi/bin/python -B -c 'import importlib, pkgutil, py_compile, sys, csi, yaml; \
    names = [each.name for each in pkgutil.walk_packages(csi.__path__, "csi.") if each.name != "csi.__main__"]; \
    [importlib.import_module(name) for name in names]; \
    files = {getattr(module, "__file__", None) or "" for module in list(sys.modules.values())}; \
    mode = py_compile.PycInvalidationMode.UNCHECKED_HASH; \
    [py_compile.compile(file, doraise=True, invalidation_mode=mode) \
        for file in files if file.startswith("/opt/") and file.endswith(".py")]'

FROM debian:trixie-slim
# xfs_scrub is not used, and needs more than all other tools together.
RUN apt-get update \
    && apt-get install --yes --no-install-recommends \
        btrfs-progs dmsetup e2fsprogs kmod lvm2 mount python3 thin-provisioning-tools util-linux xfsprogs \
    && dpkg --purge --force-depends libicu76 libglib2.0-0t64 python3-dbus \
    && rm -f /usr/sbin/xfs_scrub* \
    && apt-get clean \
    && rm -rf /var/lib/apt/lists/* /var/log/* /var/cache/debconf/*-old
COPY --from=build /opt/thinpool-csi /opt/thinpool-csi
ENV PATH=/opt/thinpool-csi/bin:/usr/sbin:/usr/bin:/sbin:/bin PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1
LABEL org.opencontainers.image.title="thinpool-csi" \
    org.opencontainers.image.description="Kubernetes volumes and snapshots as device-mapper thin devices" \
    org.opencontainers.image.licenses="Apache-2.0"
ENTRYPOINT ["thinpool-csi"]
