"""Every error a person may see. Knows codes and numbers, not words: the words are in demos/locales/errors.toml."""

from __future__ import annotations

from typing import Any, ClassVar


class DemoError(Exception):
    """An expected failure: `code` names the message in errors.toml, `params` fill its placeholders."""

    status: ClassVar[int] = 500  # what the REST doors answer
    exit_code: ClassVar[int] = 1  # what the command line returns

    def __init__(self, code: str, **params: Any) -> None:
        super().__init__(code, params)
        self.code = code
        self.params = params

    def __str__(self) -> str:
        detail = ", ".join(f"{key}={value!r}" for key, value in self.params.items())
        return f"{self.code}({detail})"

    def __reduce__(self) -> tuple[Any, ...]:
        """Copied and pickled whole: errors cross threads and processes."""
        return _restored, (type(self), self.__dict__)


class InvalidInput(DemoError):
    """The request itself is wrong. `violations` lists (code, params) of everything wrong with it, at once."""

    status = 422
    exit_code = 2

    def __init__(self, code: str, violations: tuple[tuple[str, dict[str, Any]], ...] = (), **params: Any) -> None:
        super().__init__(code, **params)
        self.violations = violations or ((code, params),)


class UnknownModel(InvalidInput):
    """No model or adapter of that name; `params["known"]` lists those there are."""

    status = 404


class AdapterMismatch(InvalidInput):
    """An adapter that cannot be used with this base, or cannot be trusted."""


class TooMany(DemoError):
    """The visitor, or the whole house, has as much work queued as it may."""

    status = 429


class ModelBusy(DemoError):
    """Waited for memory or for the model and gave up; `params["seconds"]` is the time waited."""

    status = 503


class ModelTooLarge(DemoError):
    """Larger than the whole memory budget: waiting cannot help."""

    status = 507


class ModelLoadFailed(DemoError):
    """The files are missing, broken or not what the card says."""

    status = 502


class Offline(ModelLoadFailed):
    """A download is needed, and offline is set or the Hub cannot be reached."""

    status = 503


class OutOfMemory(DemoError):
    """The device ran out of memory while computing."""

    status = 507


class TimedOut(DemoError):
    """The job used up the seconds one job may take."""

    status = 504


class Cancelled(DemoError):
    """Stopped by the visitor, by a closed page or by shutdown."""

    status = 499


class Draining(DemoError):
    """The server is shutting down and takes no new work."""

    status = 503


def _restored(cls: type[DemoError], state: dict[str, Any]) -> DemoError:
    error = cls.__new__(cls, state["code"], state["params"])
    error.__dict__.update(state)
    return error
