"""The rooms of the house: imports go one way, and looking at the catalogue imports no framework."""

from __future__ import annotations

import ast
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

from pipelines.house import LOADERS, PIPELINES

ROOT = Path(__file__).resolve().parents[2]
HEAVY = {"torch", "transformers", "diffusers", "open_clip", "onnxruntime", "peft"}
TASKS = {path.partition(":")[0] for path in PIPELINES.values()}


@cache
def imports(path: Path) -> tuple[str, ...]:
    """Dotted names of everything a file imports, inside functions too."""
    names: list[str] = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names += [str(node.module), *(f"{node.module}.{alias.name}" for alias in node.names)]
    return tuple(names)


def within(name: str, room: str) -> bool:
    return name == room or name.startswith(room + ".")


def offences(folder: str, *rooms: str) -> list[str]:
    """Imports of any of these rooms by any file below the folder."""
    return [
        f"{path.relative_to(ROOT)} imports {name}"
        for path in sorted((ROOT / folder).rglob("*.py"))
        for name in imports(path)
        if any(within(name, room) for room in rooms)
    ]


def module(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def test_the_engine_knows_no_page() -> None:
    assert not offences("pipelines", "gradio", "gradio_client", "demos", "app")


def test_the_page_computes_nothing() -> None:
    assert not offences("demos", *HEAVY)


def test_the_core_knows_the_standard_library_and_itself() -> None:
    strangers = [
        f"{path.name} imports {name}"
        for path in (ROOT / "pipelines" / "core").glob("*.py")
        for name in imports(path)
        if not within(name, "pipelines.core") and name.split(".")[0] not in sys.stdlib_module_names
    ]
    assert not strangers


def test_loaders_know_no_task_and_no_house() -> None:
    assert not offences("pipelines/loaders", *TASKS, "pipelines.house", "pipelines.uploads")


@pytest.mark.parametrize("task", sorted(TASKS))
def test_tasks_do_not_know_each_other_nor_the_house(task: str) -> None:
    path = ROOT.joinpath(*task.split(".")).with_suffix(".py")
    others = (*(TASKS - {task}), "pipelines.house", "pipelines.uploads")
    assert not [name for name in imports(path) if any(within(name, room) for room in others)]


def test_what_the_tasks_share_knows_no_task() -> None:
    above = {*TASKS, "pipelines.house", "pipelines.uploads"}
    shared = [path for path in sorted((ROOT / "pipelines").rglob("*.py")) if module(path) not in above]
    assert not [
        f"{module(path)} imports {name}"
        for path in shared
        for name in imports(path)
        if any(within(name, room) for room in above)
    ]


def test_every_loader_and_pipeline_named_in_the_house_exists() -> None:
    for named in (*LOADERS.values(), *PIPELINES.values()):
        name, _, cls = named.partition(":")
        tree = ast.parse(ROOT.joinpath(*name.split(".")).with_suffix(".py").read_text(encoding="utf-8"))
        assert cls in {node.name for node in tree.body if isinstance(node, ast.ClassDef)}, named


LOOK = """
import importlib, pkgutil, sys
import pipelines.core
for each in pkgutil.iter_modules(pipelines.core.__path__, "pipelines.core."):
    importlib.import_module(each.name)
from pipelines.core.catalog import Catalog
from pipelines.house import CATALOG, PIPELINES, House, pipeline_class
from pipelines.core.settings import Settings
assert Catalog.read(CATALOG).models()
for task in PIPELINES:
    pipeline_class(task).Params
House(Settings.read({}))
print(*sorted({name.partition(".")[0] for name in sys.modules}))
"""


def test_looking_at_tasks_and_catalogue_imports_no_framework() -> None:
    done = subprocess.run([sys.executable, "-c", LOOK], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert not set(done.stdout.split()) & (HEAVY | {"gradio", "fastapi"})
