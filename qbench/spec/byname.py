"""A bridge for the move to typed records, removed at its end: fields by ``record["name"]``."""

from typing import Any


class ByName:
    def __getitem__(self, name: str) -> Any:
        try:
            return getattr(self, name)
        except AttributeError:
            raise KeyError(name) from None

    def get(self, name: str, default: Any = None) -> Any:
        return getattr(self, name, default)

    def keys(self) -> list[str]:
        return [*type(self).model_fields, *(getattr(self, "model_extra", None) or {})]  # type: ignore[attr-defined]

    def __contains__(self, name: str) -> bool:
        return name in self.keys()
