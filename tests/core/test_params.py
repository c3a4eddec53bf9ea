"""One declaration of knobs, and everything made from it: the check, the coercion, the schema, the flags."""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass
from typing import Any

import pytest

from pipelines.core.errors import InvalidInput
from pipelines.core.params import (
    adapters_knob,
    add_arguments,
    build,
    check,
    json_schema,
    knob,
    knobs,
    model_knob,
    seed_knob,
)
from pipelines.core.specs import AdapterUse


@dataclass(frozen=True, slots=True)
class Params:
    prompt: str = knob(max_length=20)
    steps: int = knob(4, low=1, high=8, step=1)
    guidance: float = knob(1.5, low=0, high=20)
    style: str = knob("plain", choices=("plain", "bold"))
    loud: bool = knob(False)
    model: str = model_knob()
    adapters: tuple[AdapterUse, ...] = adapters_knob()
    seed: int = seed_knob()


@dataclass(frozen=True, slots=True)
class Media:
    image: Any = knob(kind="image")
    audio: Any = knob(None, kind="audio")
    pictures: Any = knob((), kind="images")


@dataclass(frozen=True, slots=True)
class Chat:
    messages: tuple[dict[str, str], ...] = knob(kind="messages", max_length=10)


def codes(**raw: Any) -> list[tuple[str, str]]:
    """What is wrong with it: (code, name) of every violation."""
    with pytest.raises(InvalidInput) as caught:
        build(Params, raw)
    return [(code, details.get("name", "")) for code, details in caught.value.violations]


def test_the_defaults_are_fine_and_only_what_is_required_must_be_given() -> None:
    assert build(Params, {"prompt": "a cat"}) == Params("a cat")
    assert codes() == [("empty", "prompt")]
    assert codes(prompt=" \n") == [("empty", "prompt")]


def test_every_violation_is_named_at_once() -> None:
    wrong = codes(prompt="x" * 21, steps=9, guidance="much", style="odd", loud="perhaps", adapters="a", seed=-2)
    assert sorted(wrong) == [
        ("not_a_choice", "style"),
        ("out_of_range", "seed"),
        ("out_of_range", "steps"),
        ("too_long", "prompt"),
        ("wrong_type", "adapters"),
        ("wrong_type", "guidance"),
        ("wrong_type", "loud"),
    ]


def test_strings_become_what_the_field_is() -> None:
    raw = {"prompt": "p", "steps": "5", "guidance": "2.5", "loud": "true", "seed": "7", "adapters": ["a:0.5", "b"]}
    made = build(Params, raw)
    assert (made.steps, made.guidance, made.loud, made.seed) == (5, 2.5, True, 7)
    assert made.adapters == (AdapterUse("a", 0.5), AdapterUse("b", 1.0))
    assert type(made.steps) is int and type(made.guidance) is float


@pytest.mark.parametrize("value", [float("nan"), float("inf"), "-Infinity", "NaN", 10**400, True, [], {}, "four"])
@pytest.mark.parametrize("name", ["steps", "guidance", "seed"])
def test_what_is_no_finite_number_is_refused(name: str, value: Any) -> None:
    assert codes(prompt="p", **{name: value}) == [("wrong_type", name)]


@pytest.mark.parametrize("value", [2.5, "2.5"])
def test_a_fraction_is_no_number_of_steps(value: Any) -> None:
    assert codes(prompt="p", steps=value) == [("wrong_type", "steps")]
    assert build(Params, {"prompt": "p", "steps": 3.0}).steps == 3


def test_made_in_code_the_same_rules_hold() -> None:
    for params in (Params("p", steps=10**400), Params("p", steps=2.5), Params("p", guidance=float("nan"))):  # type: ignore[arg-type]
        with pytest.raises(InvalidInput):
            check(params)


@pytest.mark.parametrize(
    "value", [[{"id": "a", "weight": 0.5}], [["a", 0.5]], [("a", "0.5")], ["a:0.5"], [AdapterUse("a", 0.5)]]
)
def test_adapters_may_be_written_in_several_ways(value: Any) -> None:
    assert build(Params, {"prompt": "p", "adapters": value}).adapters == (AdapterUse("a", 0.5),)


@pytest.mark.parametrize(
    ("value", "code"),
    [
        (["a:2.5"], "out_of_range"),
        (["a:nan"], "out_of_range"),
        (["a", "a"], "adapter_twice"),
        (["a", "b", "c", "d", "e"], "too_many_adapters"),
        ({"id": "a"}, "wrong_type"),
        ([{"weight": 1}], "wrong_type"),
        ([["a"]], "wrong_type"),
        (5, "wrong_type"),
    ],
)
def test_adapters_that_make_no_sense_are_refused(value: Any, code: str) -> None:
    assert [code for code, _ in codes(prompt="p", adapters=value)] == [code]


def test_an_unknown_parameter_is_named_with_those_there_are() -> None:
    with pytest.raises(InvalidInput) as caught:
        build(Params, {"prompt": "p", "stepz": 3})
    assert caught.value.code == "unknown_parameter" and "steps" in caught.value.params["known"]


def test_media_goes_through_the_decoder_and_nothing_else_does() -> None:
    seen: list[tuple[str, Any]] = []

    def decode(kind: str, value: Any) -> Any:
        seen.append((kind, value))
        return f"decoded {value}"

    made = build(Media, {"image": "a.png", "pictures": ["b.png"]}, decode)
    assert made.image == "decoded a.png" and made.audio is None
    assert seen == [("image", "a.png"), ("images", ["b.png"])]
    with pytest.raises(InvalidInput, match="empty"):
        build(Media, {})


def test_a_file_that_cannot_be_decoded_is_named_beside_the_other_faults() -> None:
    def decode(kind: str, value: Any) -> Any:
        raise InvalidInput(f"{kind}_broken")

    with pytest.raises(InvalidInput) as caught:
        build(Media, {"image": "a.png", "audio": "a.wav"}, decode)
    assert [code for code, _ in caught.value.violations] == ["image_broken", "audio_broken"]


@pytest.mark.parametrize(
    ("messages", "code"),
    [
        ([], "empty"),
        ([{"role": "user", "content": " "}], "empty"),
        ([{"role": "user", "content": "x" * 11}], "too_long"),
        ([{"role": "user", "content": "x"}] * 201, "too_long"),
        ([{"role": "tool", "content": "x"}], "wrong_type"),
        ([{"role": "user", "content": 5}], "wrong_type"),
        ([{"content": "x"}], "wrong_type"),
        (["x"], "wrong_type"),
        ("x", "wrong_type"),
    ],
)
def test_conversations_that_make_no_sense_are_refused(messages: Any, code: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        build(Chat, {"messages": messages})
    assert caught.value.code == code


def test_the_schema_says_what_the_check_does() -> None:
    schema = json_schema(Params)
    assert json.loads(json.dumps(schema)) == schema
    assert schema["required"] == ["prompt"] and schema["additionalProperties"] is False
    properties = schema["properties"]
    assert properties["prompt"] == {"type": "string", "maxLength": 20}
    assert properties["steps"] == {"type": "integer", "minimum": 1, "maximum": 8, "default": 4}
    assert properties["guidance"]["type"] == "number" and properties["loud"]["type"] == "boolean"
    assert properties["style"]["enum"] == ["plain", "bold"] and properties["adapters"]["type"] == "array"


def test_the_command_line_leaves_judging_to_the_same_check() -> None:
    parser = argparse.ArgumentParser()
    add_arguments(parser, Params, positional=("prompt",))
    line = ["a cat", "--steps", "5", "--loud", "--adapter", "a:0.5", "--adapter", "b", "--style", "bold"]
    made = build(Params, vars(parser.parse_args(line)))
    assert (made.prompt, made.steps, made.loud, made.style) == ("a cat", 5, True, "bold")
    assert [use.id for use in made.adapters] == ["a", "b"]
    with pytest.raises(InvalidInput, match="out_of_range"):
        build(Params, vars(parser.parse_args(["p", "--steps", "99"])))


def test_knobs_know_their_kind_from_the_type_of_the_field() -> None:
    kinds = {each.name: each.kind for each in knobs(Params)}
    assert list(kinds) == ["prompt", "steps", "guidance", "style", "loud", "model", "adapters", "seed"]
    assert (kinds["steps"], kinds["style"], kinds["loud"]) == ("number", "choice", "switch")
    assert [each.name for each in knobs(Params) if each.required] == ["prompt"]


def test_a_list_default_is_not_shared_between_requests() -> None:
    @dataclass(frozen=True)
    class Listed:
        words: Any = knob([], kind="images")

    first = Listed()
    first.words.append("x")
    assert Listed().words == []
