"""Every class a reasoning card names: served by a hub, loaded by the real loader, asked a question."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from pipelines.core.errors import InvalidInput
from pipelines.core.params import build
from pipelines.core.specs import ModelSpec
from pipelines.core.streaming import Event, Job, Stop, TextDelta
from pipelines.reasoning import Params, Reasoner, Result
from tests.hub import LoopbackHub
from tests.tiny import reasoning, serving

HUB_CARDS = [spec for spec in serving.CATALOG.models("reasoning") if spec.source.startswith("hf:")]
SPECS = list({serving.kind(spec): spec for spec in reversed(HUB_CARDS)}.values())


@pytest.fixture(scope="module", params=SPECS, ids=lambda spec: spec.id)
def served(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple]:
    spec: ModelSpec = request.param
    with LoopbackHub() as hub:
        registry = serving.registry(hub, tmp_path_factory.mktemp("reasoning"), reasoning.BUILDERS, spec)
        yield Reasoner(registry, lease_seconds=5), spec
        registry.close()


def ask(served: tuple, text: str = "the cat sat", job: Job | None = None, **more: object) -> Result:
    reasoner, spec = served
    raw = {"messages": [{"role": "user", "content": text}], "model": spec.id, "seed": 7, "max_new_tokens": 24, **more}
    return reasoner.run(build(Params, raw), job or Job())


def test_every_class_of_the_cards_has_a_tiny_model() -> None:
    assert {serving.kind(spec) for spec in HUB_CARDS} == set(reasoning.BUILDERS)


def test_greedy_decoding_equals_generate(served: tuple) -> None:
    from pipelines import decoding

    reasoner, spec = served
    with reasoner.registry.lease(spec.id) as lease:
        net, tokenizer = lease.model.model, lease.model.processor
        prompt = tokenizer.encode("the dog ran home " * 60)
        assert len(prompt) > 2 * decoding.PROMPT_BLOCK // 3
        ours: list[int] = []
        decoding.decode(
            net,
            prompt,
            decoding.Sampling(0, 1, 0),
            limit=24,
            ends=decoding.end_tokens(net, tokenizer),
            stop=Stop(),
            on_token=lambda choice: ours.append(choice.id),
        )
        theirs = net.generate(torch.tensor([prompt]), do_sample=False, max_new_tokens=24)[0, len(prompt) :].tolist()
    assert ours == [id for id in theirs if id != tokenizer.eos_token_id] and len(ours) > 3


def test_the_stream_is_the_text(served: tuple) -> None:
    events: list[Event] = []
    result = ask(served, job=Job(emit=events.append), temperature=1.5)
    assert "".join(event.text for event in events if isinstance(event, TextDelta)) == result.text
    assert 1 <= result.completion_tokens <= 24 and result.finish_reason in ("stop", "length")
    assert result.made.model == served[1].id and result.made.seed == 7


def test_same_seed_same_text_and_another_seed_another(served: tuple) -> None:
    texts = [ask(served, temperature=1.5, seed=seed).text for seed in (7, 7, 8)]
    assert texts[0] == texts[1] != texts[2]


def test_alternatives_are_probabilities_best_first(served: tuple) -> None:
    result = ask(served, alternatives=True, temperature=0)
    assert len(result.tokens) == result.completion_tokens > 0
    for token in result.tokens:
        probabilities = [probability for _, probability in token.top]
        assert len(probabilities) == 5 and probabilities == sorted(probabilities, reverse=True)
        assert sum(probabilities) <= 1.0001 and torch.tensor(token.logprob).exp() == pytest.approx(probabilities[0])


def test_a_prompt_beyond_the_context_is_refused_with_its_length(served: tuple) -> None:
    with pytest.raises(InvalidInput) as caught:
        ask(served, "mat and " * 900)
    assert caught.value.code == "prompt_too_long" and caught.value.params["limit"] == 1023


def test_embeddings_have_length_one_and_tell_texts_apart(served: tuple) -> None:
    reasoner, spec = served
    one, two, again = reasoner.embed(["the cat", "一步一步", "the cat"], Job(), spec.id)
    assert sum(x * x for x in one) == pytest.approx(1, abs=1e-4) and one == again != two


def test_every_adapter_card_changes_the_answer_and_leaves_the_base_exact(tmp_path: Path, hub: LoopbackHub) -> None:
    adapters = [adapter for adapter in serving.CATALOG.adapters() if adapter.base == "qwen25-05b-instruct"]
    spec = serving.CATALOG.model("qwen25-05b-instruct")
    registry = serving.registry(hub, tmp_path, reasoning.BUILDERS, spec)
    served = Reasoner(registry, lease_seconds=5), spec
    base = ask(served, temperature=0).text
    for adapter in adapters:
        reasoning.lora(tmp_path / "repositories" / spec.id, tmp_path / "repositories" / adapter.id)
        hub.add(adapter.source.removeprefix("hf:"), tmp_path / "repositories" / adapter.id)
        registry.add_adapter(adapter)
        changed = ask(served, temperature=0, adapters=[f"{adapter.id}:1.5"])
        assert changed.text != base and changed.made.adapters[0].weight == 1.5
        assert ask(served, temperature=0).text == base
    assert len(adapters) == 3
