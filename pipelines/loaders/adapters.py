"""The adapter half of a Loader, for the families that need no machinery of their own."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipelines.core.errors import AdapterMismatch
from pipelines.core.registry import Attachment
from pipelines.core.specs import AdapterSpec, AdapterUse

if TYPE_CHECKING:
    from torch import nn

    from pipelines.loaders.lora import LoraBank


class NoAdapters:
    """A family whose models cannot take adapters says so before anything is touched."""

    def check(self, model: Any, spec: AdapterSpec, folder: Path) -> None:
        raise AdapterMismatch("adapters_unsupported", id=spec.id, base=spec.base)

    def attach(self, model: Any, spec: AdapterSpec, folder: Path) -> Attachment:
        raise AdapterMismatch("adapters_unsupported", id=spec.id, base=spec.base)

    def activate(self, model: Any, uses: tuple[AdapterUse, ...]) -> None:
        """The base is all there is."""

    def detach(self, model: Any, id: str) -> None:
        """Nothing can have been attached."""


class PlainLora:
    """LoRA on the linear layers of any torch module. The model keeps its bank in `bank`, None until first needed."""

    def network(self, model: Any) -> nn.Module:
        """The torch module inside the loaded model."""
        raise NotImplementedError

    def check(self, model: Any, spec: AdapterSpec, folder: Path) -> None:
        self._bank(model).check(spec, folder)

    def attach(self, model: Any, spec: AdapterSpec, folder: Path) -> Attachment:
        return self._bank(model).attach(spec, folder)

    def activate(self, model: Any, uses: tuple[AdapterUse, ...]) -> None:
        if model.bank is not None:
            model.bank.activate(uses)

    def detach(self, model: Any, id: str) -> None:
        if model.bank is not None:
            model.bank.detach(id)

    def drop_bank(self, model: Any) -> None:
        """Let go of every adapter, before the model itself is freed."""
        if model.bank is not None:
            model.bank.clear()
            model.bank = None

    def _bank(self, model: Any) -> LoraBank:
        from pipelines.loaders.lora import LoraBank

        if model.bank is None:
            model.bank = LoraBank(self.network(model))
        return model.bank
