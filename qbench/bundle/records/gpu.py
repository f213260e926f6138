"""A bundle's record of a GPU during a trial. Bundles come from other machines, so records are
checked whenever they are read."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

Count = Annotated[int, Field(ge=0)]
Reading = Annotated[float, Field(ge=0)]
Share = Annotated[float, Field(ge=0, le=1)]


class Gpu(BaseModel):
    """Summary of the card around a trial's window; an unknown value is None, and ``missing`` has
    the reason. See ``qbench.machine.gpu.watch.Watcher.summary``."""

    model_config = ConfigDict(extra="allow", strict=True, allow_inf_nan=False)

    samples: Count
    missing: dict[str, str]
    sm_clock_mhz: Reading | None = None
    sm_clock_low_mhz: Reading | None = None
    sm_clock_high_mhz: Reading | None = None
    memory_clock_mhz: Reading | None = None
    power_w: Reading | None = None
    power_limit_w: Reading | None = None
    power_limit_default_w: Reading | None = None
    temperature_c: float | None = None
    throttled: dict[str, Share] | None = None
    memory_used_bytes: Count | None = None
    memory_process_bytes: Count | None = None
    memory_process_by: Literal["process", "difference"] | None = None
    others: Count | None = None
    ecc_corrected: int | None = None
    ecc_uncorrected: int | None = None
    mig: bool | None = None

    @model_validator(mode="after")
    def _memory_has_its_source(self) -> Self:
        if (self.memory_process_bytes is None) != (self.memory_process_by is None):
            raise ValueError("the process's memory and how it is known go together")
        return self
