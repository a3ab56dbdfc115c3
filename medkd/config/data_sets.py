"""The data sets that a configuration may name, one settings type for each `kind`."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from medkd.data.archive_cases import ArchiveData
from medkd.data.data_sets import Luna16Data, MedMnistData
from medkd.synthetic.source import PhantomData

DataSettings = Annotated[
    Luna16Data | PhantomData | MedMnistData | ArchiveData, Field(discriminator="kind")
]
"""Each of these types implements `medkd.data.cases.CaseSource`."""
