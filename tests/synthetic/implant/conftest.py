"""One phantom chest with two synthetic nodules, made once."""

import pytest

from medkd.synthetic.implant.make import ImplantedScan, implant_scan
from medkd.synthetic.implant.settings import ImplantSettings
from medkd.synthetic.phantom import PhantomSettings, make_phantom
from medkd.types import Scan


@pytest.fixture(scope="session")
def chest() -> Scan:
    return make_phantom(PhantomSettings(seed=3), 0).scan


@pytest.fixture(scope="session")
def implanted(chest: Scan) -> ImplantedScan:
    return implant_scan(chest, ImplantSettings(n=2, sizes="5-8"))
