"""Settings that people type: checked at once, and wrong ones named in a sentence."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Self

from pydantic import BaseModel, ConfigDict, ValidationError

from hissbt.errors import ConfigError


class Settings(BaseModel):
    """Base of settings: nothing unknown, no infinite numbers, never changed.

    ``kind`` is what a setting is called in messages; a field's description says what to write for it.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)
    kind: ClassVar[str] = "setting"

    @classmethod
    def of(cls, settings: Mapping[str, Any]) -> Self:
        """Build from plain values; raises ConfigError naming the first setting that is wrong."""
        try:
            return cls(**settings)
        except ValidationError as error:
            raise ConfigError(cls._one_sentence(error.errors()[0])) from error

    @classmethod
    def _one_sentence(cls, error: dict[str, Any]) -> str:
        """Say what a pydantic error says, naming the setting."""
        reason = error["msg"].removeprefix("Value error, ")
        if not error["loc"]:
            return f"the {cls.kind}s contradict each other, {reason}"
        name = error["loc"][0]
        if error["type"] == "extra_forbidden":
            return f"unknown {cls.kind} {name!r}: choose from {', '.join(cls.model_fields)}"
        wanted = cls.model_fields[name].description
        reason = f"write {wanted}" if wanted else reason[:1].lower() + reason[1:]
        return f"{cls.kind} {name!r} cannot be {error['input']!r}: {reason}"
