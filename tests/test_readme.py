"""README promises that a program can check: the Space card, the pins, the commands, the tree."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import yaml
from huggingface_hub import SpaceCardData

from pipelines.core.catalog import Catalog
from pipelines.house import CATALOG

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def front_matter() -> dict[str, object]:
    assert README.startswith("---\n")
    loaded = yaml.safe_load(README.split("---\n")[1])
    assert isinstance(loaded, dict)
    return loaded


def test_front_matter_is_a_space_card() -> None:
    card = SpaceCardData(**front_matter())
    colours = {"red", "yellow", "green", "blue", "indigo", "purple", "pink", "gray"}
    assert card.sdk == "gradio" and (ROOT / str(card.app_file)).exists()
    assert {front_matter()["colorFrom"], front_matter()["colorTo"]} <= colours
    assert len(str(card.short_description)) <= 60


def test_the_space_runs_the_gradio_we_test_with() -> None:
    pins = dict(line.split("==") for line in (ROOT / "constraints.txt").read_text().splitlines() if "==" in line)
    assert front_matter()["sdk_version"] == pins["gradio"]


def test_the_space_names_the_models_of_the_catalogue() -> None:
    catalog = Catalog.read(CATALOG)
    sources = [spec.source for spec in (*catalog.models(), *catalog.adapters())]
    assert front_matter()["models"] == sorted({source[3:] for source in sources if source.startswith("hf:")})


def test_every_requirement_has_an_exact_pin() -> None:
    def name(line: str) -> str:
        return re.split(r"[<>=\[]", line)[0].lower().replace("_", "-")

    pinned = {name(line) for line in (ROOT / "constraints.txt").read_text().splitlines()}
    for file in ROOT.glob("requirements*.txt"):
        lines = file.read_text().splitlines()
        wanted = {name(line) for line in lines if line and line[0] not in "#-"}
        assert wanted <= pinned, f"{file.name}: {wanted - pinned}"


def test_commands_in_the_readme_exist() -> None:
    commands = set(re.findall(r"python app\.py ([a-z]+)", README))
    helped = subprocess.run([sys.executable, "app.py", "--help"], cwd=ROOT, capture_output=True, text=True, check=True)
    assert commands and all(command in helped.stdout for command in commands)


def test_pictures_and_folders_in_the_readme_exist() -> None:
    linked = re.findall(r"\]\((assets/[^)]+)\)", README)
    tree = re.findall(r"^([a-z.]+/?) {2,}", README.split("## Layout")[1], flags=re.M)
    assert linked and tree
    assert all((ROOT / path).exists() for path in [*linked, *tree])
