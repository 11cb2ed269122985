import pytest

from mixflight.arch.errors import InputError
from mixflight.mapping.core_network import network_of
from mixflight.workloads.model import model_named
from mixflight.workloads.recipe import recipe_named
from mixflight.workloads.trace import prefill_trace


@pytest.mark.parametrize(
    ("model", "recipe", "message"),
    [
        ("llama2-7b", "flatquant", "not operator 'kron@qkv.in.0' of llama2-7b"),
        ("llama2-7b", "pb_llm", "not operator 'q.part0' of llama2-7b"),
        ("bert-base", "w8a8", "bert-base has no operator 'final_norm'"),
    ],
)
def test_what_the_fused_layers_have_no_place_for_is_refused(model, recipe, message):
    trace = prefill_trace(model_named(model), recipe_named(recipe), 16)
    with pytest.raises(InputError) as error:
        network_of(trace)
    assert message in str(error.value)


@pytest.mark.parametrize("model", ["llama2-7b", "opt-6.7b", "qwen2.5-7b", "gemma2-2b", "gpt2"])
def test_every_plain_decoder_is_fused_layers(model):
    found = model_named(model)
    network = network_of(prefill_trace(found, recipe_named("w8a8"), 16))
    assert (network.hidden, network.ffn, len(network.layers)) == (found.hidden, found.ffn, found.layers)
