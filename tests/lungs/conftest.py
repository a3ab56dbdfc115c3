"""A phantom whose lungs are known."""

import pytest

from medkd.synthetic.phantom import PhantomSettings, make_phantom


@pytest.fixture(scope="package")
def phantom():
    return make_phantom(PhantomSettings(site="b", seed=5, nodules_per_scan="6-6"), 0)
