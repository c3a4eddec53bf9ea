"""The catalogue and the registry's state as JSON rows, for REST and the command line."""

from __future__ import annotations

from typing import Any

from pipelines.house import House


def catalogue(house: House) -> list[dict[str, Any]]:
    """A row per model that a person may choose; `missing` is the code of what keeps it from being used."""
    rows = []
    for spec in house.catalog.models():
        if spec.part:
            continue
        missing = house.sources.missing(spec)
        adapters = [adapter.id for adapter in house.catalog.adapters(spec.id)]
        rows.append(
            {
                "id": spec.id,
                "task": spec.task,
                "tier": spec.tier,
                "license": spec.license,
                "parameters_m": spec.parameters_m,
                "size_mb": spec.size_mb,
                "languages": list(spec.languages),
                "default": house.default_model(spec.task) == spec.id,
                "missing": missing.code if missing else None,
                "adapters": adapters,
            }
        )
    return rows


def resident(house: House) -> list[dict[str, Any]]:
    """What is in memory, most recently used first."""
    registry = house.registry_if_made
    wanted = ("id", "kind", "base", "state", "size", "device", "leases", "pinned", "hits")
    return [{name: getattr(view, name) for name in wanted} for view in (registry.status() if registry else ())]
