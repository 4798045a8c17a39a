"""What a rebuild takes for true."""

from types import SimpleNamespace
from typing import TYPE_CHECKING, cast

import pytest

from csi.errors import InvalidRequestError
from csi.model import Claim, Handle, Kind, PoolId, ThinId
from csi.units import MIB, Bytes
from csi.volumes import recovery

if TYPE_CHECKING:
    from csi.volumes.pool import Pool

POOL_ID = PoolId("aaaaaaaaaa")


def claim(thin: int) -> Claim:
    return Claim(Handle(POOL_ID, ThinId(thin)), Kind.VOLUME, "pvc", Bytes(MIB))


def test_an_id_that_cannot_have_been_handed_out_is_refused_by_name() -> None:
    """One object written by hand would use up all the ids of the pool."""
    pool = cast("Pool", SimpleNamespace(spec=SimpleNamespace(name="fast")))
    recovery._require_plausible(pool, [claim(7), claim(1007)], 7)
    with pytest.raises(InvalidRequestError, match=f"{POOL_ID}-00ffffff"):
        recovery._require_plausible(pool, [claim(7), claim(0xFFFFFF)], 7)
