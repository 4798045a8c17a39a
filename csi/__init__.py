"""thinpool-csi: a Kubernetes CSI driver that makes volumes and snapshots as device-mapper thin devices."""

__version__ = "0.1.0"
