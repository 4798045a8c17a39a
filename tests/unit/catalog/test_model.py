"""The catalog against a model, through restarts and with old copies put in its place."""

import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, invariant, rule

from csi.catalog.row import Counts
from csi.catalog.store import Catalog
from csi.model import Device, FsState, FsType, Kind, State, ThinId
from csi.units import KIB, MIB, Bytes
from tests.unit.catalog.drafts import POOL, snapshot, volume


@dataclass
class Model:
    """What the catalog must hold."""

    devices: dict[ThinId, Device] = field(default_factory=dict)
    uncut: set[int] = field(default_factory=set)
    changed: int = 0
    """Changes that a catalog from before them may not miss, and the list of thin devices does not show."""

    def copy(self) -> "Model":
        return Model(dict(self.devices), set(self.uncut), self.changed)


class CatalogMachine(RuleBasedStateMachine):
    """What the volumes layer does to a catalog, in any order, and what may happen to its files."""

    thins: Bundle[ThinId] = Bundle("thins")
    copies: Bundle[tuple[Path, Model]] = Bundle("copies")

    def __init__(self) -> None:
        super().__init__()
        self.base = Path(tempfile.mkdtemp())
        self.directory = self.base / "catalog"
        self.directory.mkdir()
        self.model = Model()
        self.kernel = 1
        """The pool's transaction id."""
        self.given: set[ThinId] = set()
        self.names = 0

    @initialize()
    def create(self) -> None:
        self.catalog = Catalog.create(self.directory, POOL, Bytes(64 * KIB), 1)

    # -- what the volumes layer does ----------------------------------------------------------------------------

    @rule(target=thins, ephemeral=st.booleans())
    def add_volume(self, ephemeral: bool) -> ThinId:
        (device,), ceiling = self.catalog.add([volume(self.name(), ephemeral=ephemeral)], covered=self.kernel)
        return self.added([device], ceiling)[0]

    @rule(target=thins, origin=thins)
    def add_snapshot(self, origin: ThinId) -> ThinId:
        (device,), ceiling = self.catalog.add([snapshot(origin, self.name())], covered=self.kernel)
        return self.added([device], ceiling)[0]

    @rule(target=thins, origin=thins, members=st.integers(1, 3), cut=st.booleans())
    def add_group(self, origin: ThinId, members: int, cut: bool) -> ThinId:
        devices, ceiling = self.catalog.add([snapshot(origin, None)] * members, covered=self.kernel, group=self.name())
        self.added(devices, ceiling)
        group = devices[0].group
        assert group is not None
        self.model.uncut.add(group)
        if cut:
            made, ceiling = self.catalog.group_cut(group, 99, covered=self.kernel)
            assert [member.handle for member in made.members] == [device.handle for device in devices]
            for device in devices:
                self.update(device, state=State.READY, created=99)
            self.model.uncut.remove(group)
            self.unseen(ceiling)
        return devices[0].handle.thin

    @rule(thin=thins)
    def finish(self, thin: ThinId) -> None:
        device = self.model.devices.get(thin)
        if device is None:
            return
        if device.state is State.CREATING:
            self.catalog.ready([device])
            self.update(device, state=State.READY)
        elif device.state is State.CUTTING and device.group is None:
            _, ceiling = self.catalog.snapshot_cut(device, 98, covered=self.kernel)
            self.update(device, state=State.READY, created=98)
            self.unseen(ceiling)

    @rule(thin=thins)
    def format(self, thin: ThinId) -> None:
        device = self.model.devices.get(thin)
        if device is not None and device.kind is Kind.VOLUME and device.state is State.READY:
            self.catalog.formatting(device)
            self.unseen(self.catalog.formatted(device, FsType.XFS, covered=self.kernel))
            self.update(device, fs_state=FsState.FORMATTED, fs_type=FsType.XFS)

    @rule(thin=thins, by=st.integers(1, 9))
    def grow(self, thin: ThinId, by: int) -> None:
        device = self.model.devices.get(thin)
        if device is not None and device.state is State.READY:
            size = Bytes(device.size + by * MIB)
            _, ceiling = self.catalog.grow(device, size, covered=self.kernel)
            self.update(device, size=size)
            self.unseen(ceiling)

    @rule(thin=thins)
    def delete(self, thin: ThinId) -> None:
        device = self.model.devices.get(thin)
        if device is None or device.state is State.DELETING:
            return
        doomed = [
            each for each in self.model.devices.values() if device.group is not None and each.group == device.group
        ]
        self.catalog.delete(doomed or [device], group=device.group)
        for each in doomed or [device]:
            self.update(each, state=State.DELETING, name=None, group=None)
        self.model.uncut.discard(device.group or 0)

    @rule(thin=consumes(thins))
    def give_back(self, thin: ThinId) -> None:
        device = self.model.devices.get(thin)
        if device is not None and device.state is State.DELETING:
            self.unseen(self.catalog.emptying(covered=self.kernel))
            self.catalog.forget(device)
            del self.model.devices[thin]

    # -- what may happen ----------------------------------------------------------------------------------------

    @rule()
    def restart(self) -> None:
        self.catalog.close()
        self.open()
        assert self.begun()

    @rule(target=copies)
    def keep_a_copy(self) -> tuple[Path, Model]:
        copy = Path(tempfile.mkdtemp(dir=self.base))
        for file in self.directory.iterdir():
            shutil.copy(file, copy)
        return copy, self.model.copy()

    @rule(copy=copies)
    def put_a_copy_back(self, copy: tuple[Path, Model]) -> None:
        """It is known as older unless nothing of weight has changed since; then it serves, and no id comes twice."""
        files, model = copy
        newest = self.base / "newest"
        self.catalog.close()
        self.directory.rename(newest)
        shutil.copytree(files, self.directory)
        self.open()
        if self.begun():
            assert model.changed == self.model.changed
            self.model = model.copy()
            shutil.rmtree(newest)
            return
        self.catalog.close()
        shutil.rmtree(self.directory)
        newest.rename(self.directory)
        self.open()
        assert self.begun()

    # -- what must hold -----------------------------------------------------------------------------------------

    @invariant()
    def as_the_model(self) -> None:
        if not hasattr(self, "catalog"):
            return
        found = {device.handle.thin: device for device in self.catalog.devices()}
        assert found == self.model.devices
        assert {group.handle.group for group in self.catalog.uncut_groups()} == self.model.uncut
        living = [device for device in found.values() if device.state is not State.DELETING]
        volumes = [device for device in living if device.kind is Kind.VOLUME]
        assert self.catalog.counts() == Counts(
            volumes=len(volumes),
            snapshots=len(living) - len(volumes),
            deleting=len(found) - len(living),
            quarantined=0,
            templates=0,
            virtual=Bytes(sum(device.size for device in volumes)),
        )
        ceiling, covered = self.catalog.ceiling()
        assert covered <= self.kernel <= ceiling
        assert all(thin < ceiling for thin in found)

    def teardown(self) -> None:
        if hasattr(self, "catalog"):
            self.catalog.close()
        shutil.rmtree(self.base)

    # -- inside -------------------------------------------------------------------------------------------------

    def name(self) -> str:
        self.names += 1
        return f"name-{self.names}"

    def added(self, devices: Sequence[Device], ceiling: int) -> list[ThinId]:
        self.kernel = max(self.kernel, ceiling)
        thins = [device.handle.thin for device in devices]
        assert not self.given & set(thins), "handed out twice"
        assert all(thin < self.kernel for thin in thins)
        self.given |= set(thins)
        self.model.devices.update(zip(thins, devices, strict=True))
        return thins

    def update(self, device: Device, **changes: object) -> None:
        self.model.devices[device.handle.thin] = replace(device, **changes)  # type: ignore[arg-type]

    def unseen(self, ceiling: int) -> None:
        assert ceiling > self.kernel
        self.kernel = ceiling
        self.model.changed += 1

    def open(self) -> None:
        self.catalog = Catalog.open(self.directory, POOL)

    def begun(self) -> bool:
        """Begin as a start does; False if the catalog is older than the pool."""
        ceiling, _ = self.catalog.ceiling()
        if self.kernel > ceiling:
            return False
        self.kernel = ceiling
        self.catalog.begin_at(ceiling)
        return True


CatalogMachine.TestCase.settings = settings(max_examples=40, stateful_step_count=40, deadline=None)
TestCatalogAgainstAModel = CatalogMachine.TestCase
