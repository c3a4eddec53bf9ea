"""What the host decided, from the environment and from flags."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import pytest

from pipelines.core.settings import Settings


def test_an_empty_environment_gives_safe_defaults() -> None:
    settings = Settings.read({})
    assert (settings.host, settings.port, settings.offline, settings.device) == ("127.0.0.1", 7860, False, "auto")
    assert (settings.running_per_visitor, settings.queued_per_visitor, settings.device_slots) == (1, 2, 1)
    assert (settings.root / "pipelines" / "core" / "settings.py").is_file()


def test_the_environment_is_read() -> None:
    env = {
        "SYNESTHESIA_PORT": "8000",
        "SYNESTHESIA_BUDGET_MB": "512",
        "SYNESTHESIA_IDLE_SECONDS": "0.5",
        "SYNESTHESIA_ALLOWED_HOSTS": "a.example,b.example",
        "SYNESTHESIA_CACHE": "/tmp/cache",
        "SYNESTHESIA_DEVICE": "cpu",
        "SPACE_HOST": "me.hf.space",
    }
    settings = Settings.read(env)
    assert (settings.port, settings.budget_mb, settings.idle_seconds, settings.device) == (8000, 512, 0.5, "cpu")
    assert settings.allowed_hosts == ("a.example", "b.example", "me.hf.space")
    assert settings.cache == Path("/tmp/cache")


@pytest.mark.parametrize(("env", "offline"), [({"HF_HUB_OFFLINE": "1"}, True), ({"HF_HUB_OFFLINE": "0"}, False)])
def test_the_hubs_own_offline_switch_counts_unless_ours_says_otherwise(env: dict[str, str], offline: bool) -> None:
    assert Settings.read(env).offline is offline
    assert Settings.read(env | {"SYNESTHESIA_OFFLINE": "yes"}).offline is True
    assert Settings.read(env | {"SYNESTHESIA_OFFLINE": "no"}).offline is False


def test_flags_win_over_the_environment_and_absent_flags_do_not() -> None:
    env = {"SYNESTHESIA_PORT": "8000", "SYNESTHESIA_HOST": "0.0.0.0"}
    settings = Settings.read(env, port=9000, host=None, offline=True)
    assert (settings.port, settings.host, settings.offline) == (9000, "0.0.0.0", True)


@pytest.mark.parametrize("text", ["many", "", "-1", "nan", "inf"])
@pytest.mark.parametrize("name", ["PORT", "JOB_SECONDS", "BUDGET_MB"])
def test_a_number_that_is_none_is_refused_naming_the_variable(name: str, text: str) -> None:
    with pytest.raises(ValueError, match=f"SYNESTHESIA_{name}"):
        Settings.read({f"SYNESTHESIA_{name}": text})


def test_an_unknown_flag_is_an_error_and_settings_cannot_change() -> None:
    with pytest.raises(TypeError):
        Settings.read({}, colour="red")
    with pytest.raises(AttributeError):
        Settings.read({}).port = 1  # type: ignore[misc]


def test_every_number_can_be_set_from_outside() -> None:
    numbers = [field.name for field in fields(Settings) if field.type in ("int", "float")]
    env = {f"SYNESTHESIA_{name.upper()}": "3" for name in numbers}
    settings = Settings.read(env)
    assert all(getattr(settings, name) == 3 for name in numbers)
