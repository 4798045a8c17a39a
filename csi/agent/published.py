"""The certificates of the controllers, in the one ConfigMap where the nodes read them: an entry for each pod."""

import structlog

from csi.errors import NotFoundError
from csi.kube.api import Api
from csi.kube.resources import config_maps, pods

log = structlog.get_logger()


class Published:
    """The entries in ConfigMap ``name``; ours is that of ``pod``. All raise what the API raises (csi/kube/api.py)."""

    def __init__(self, api: Api, namespace: str, name: str, pod: str) -> None:
        self._api = api
        self._pods = pods(namespace)
        self._config_maps = config_maps(namespace)
        self._name = name
        self._pod = pod

    def write(self, pem: str) -> None:
        """Have our entry say ``pem``."""
        self._patch({self._pod: pem})

    def withdraw(self) -> None:
        """Take our entry away."""
        self._patch({self._pod: None})

    def forget_gone(self) -> None:
        """Take away the entries of pods that are no more: one that was killed has not withdrawn its own."""
        listed = self._api.get(self._config_maps, self._name).get("data") or {}
        gone = [pod for pod in listed if not self._exists(pod)]
        if gone:
            self._patch(dict.fromkeys(gone))
            log.info("certificates of controllers that are gone taken away", pods=gone)

    def _exists(self, pod: str) -> bool:
        try:
            self._api.get(self._pods, pod)
        except NotFoundError:
            return False
        return True

    def _patch(self, data: dict[str, str | None]) -> None:
        self._api.patch(self._config_maps, self._name, {"data": data})
