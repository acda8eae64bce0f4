import json
import shutil
import socket
import time

import pytest
from huggingface_hub import HfApi, constants
from huggingface_hub.errors import RepositoryNotFoundError
from safetensors.torch import load_file, save_file
from transformers import AutoProcessor, BertConfig, LlavaConfig, MllamaConfig

from vtc import embedded
from vtc.inference import loading


def saved(directory, **config) -> str:
    directory.mkdir(exist_ok=True)
    (directory / "config.json").write_text(json.dumps(config))
    return str(directory)


def test_the_embedded_model():
    model, processor = loading.load("tiny-llava", device="cpu", dtype="bfloat16")
    assert type(model).__name__ == "LlavaForConditionalGeneration"
    assert str(model.dtype) == "torch.bfloat16"
    assert not model.training
    assert processor.tokenizer.unk_token_id is not None


def test_a_directory(tmp_path):
    copy = shutil.copytree(embedded.path("tiny-llava"), tmp_path / "mine")
    model, _ = loading.load(str(copy), device="cpu")
    assert model.config.image_token_id == 4


@pytest.mark.parametrize(
    ("name", "error", "message"),
    [
        ("tiny-lava", ValueError, r"did you mean 'tiny-llava'\?.*a directory, or a hub id"),
        ("./nowhere", FileNotFoundError, "no such directory"),
        ("/nowhere/at/all", FileNotFoundError, "no such directory"),
        (__file__, NotADirectoryError, r"is a file; pass the directory that holds its config\.json"),
    ],
)
def test_names_that_lead_nowhere(name, error, message):
    with pytest.raises(error, match=message):
        loading.load(name)


def test_a_directory_without_a_model(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"holds no config\.json"):
        loading.load(str(tmp_path))


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (dict(model_type="llava", architectures=["LlavaLlamaForCausalLM"]), "llava-hf/llava-1.5-7b-hf"),
        (dict(model_type="llava_llama", architectures=["LlavaLlamaForCausalLM"]), "llava-hf/llava-1.5-7b-hf"),
        (dict(model_type="llava_llama"), "llava-hf/llava-1.5-7b-hf"),
        (dict(model_type="llava_mistral", architectures=["LlavaMistralForCausalLM"]), "llava-v1.6-mistral-7b-hf"),
        (
            dict(
                model_type="internvl_chat",
                architectures=["InternVLChatModel"],
                auto_map={"AutoConfig": "configuration_internvl_chat.InternVLChatConfig"},
            ),
            "OpenGVLab/InternVL3-8B-hf",
        ),
        (
            dict(model_type="my_vlm", auto_map={"AutoConfig": "evil.Config"}),
            "model_type 'my_vlm', which this transformers does not know; it brings code of its own, which is never run",
        ),
        (dict(), "model_type None, which this transformers does not know; load a checkpoint converted"),
    ],
)
def test_checkpoints_of_another_format_are_refused(tmp_path, config, message):
    place = saved(tmp_path / "x", **config)
    (tmp_path / "x" / "evil.py").write_text("raise SystemExit('remote code ran')")
    with pytest.raises(ValueError, match=message):
        loading.load(place)


def test_models_without_images_or_without_an_adapter_are_refused_before_any_weight_is_read(tmp_path):
    with pytest.raises(ValueError, match=r"bert has model_type 'bert', .*images"):
        loading.load(saved(tmp_path / "bert", **BertConfig().to_dict()))
    tower = dict(model_type="pixtral", hidden_size=32, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2)
    text = dict(model_type="llama", hidden_size=32, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2)
    config = LlavaConfig(vision_config=tower, text_config=text).to_dict()
    loading.check_config(saved(tmp_path / "pixtral", **config))  # the generic adapter takes it
    crossing = MllamaConfig(
        vision_config=dict(hidden_size=32, intermediate_size=32, num_hidden_layers=1, attention_heads=2),
        text_config=dict(text, model_type="mllama_text_model", cross_attention_layers=[0]),
    )
    with pytest.raises(ValueError, match=r"MllamaForConditionalGeneration.*takes no `mm_encoder_outputs`"):
        loading.check_config(saved(tmp_path / "mllama", **crossing.to_dict()))


def test_files_that_are_missing_are_an_error_of_the_system(tmp_path):
    copy = shutil.copytree(embedded.path("tiny-llava"), tmp_path / "mine")
    (copy / "model.safetensors").unlink()
    with pytest.raises(OSError, match="mine"):
        loading.load(str(copy))


def test_weights_with_gaps_are_refused(tmp_path):
    copy = shutil.copytree(embedded.path("tiny-llava"), tmp_path / "mine")
    weights = load_file(copy / "model.safetensors")
    weights.pop(next(name for name in weights if "q_proj.weight" in name))
    save_file(weights, copy / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ValueError, match=r"mine: .*weights lack .* 1 .*q_proj\.weight"):
        loading.load(str(copy))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dict(device="gpu"), "device='gpu' is unknown; expected auto, cpu, cuda"),
        (dict(device="cuda:99"), "device='cuda:99': this machine has"),
        (dict(dtype="int4"), "dtype='int4'; expected one of auto, float32"),
    ],
)
def test_devices_and_dtypes_that_do_not_exist(options, message):
    with pytest.raises(ValueError, match=message):
        loading.load("tiny-llava", **options)


# The hub


@pytest.fixture
def online(monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)


def test_offline_names_what_works():
    start = time.perf_counter()
    with pytest.raises(ConnectionError, match=r"model='me/model': .*hub could not be reached.*'tiny-llava'"):
        loading.load("me/model")
    assert time.perf_counter() - start < 10


@pytest.mark.usefixtures("online")
@pytest.mark.parametrize("listening", [True, False])
def test_a_hub_that_does_not_answer_is_not_waited_for(monkeypatch, listening):
    monkeypatch.setattr(loading, "PATIENCE", 0.5)
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        if listening:
            server.listen()  # takes the call and says nothing
        monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{server.getsockname()[1]}")
        start = time.perf_counter()
        with pytest.raises(ConnectionError, match="could not be reached"):
            loading.locate("me/model")
        assert time.perf_counter() - start < 5


@pytest.mark.usefixtures("online")
def test_a_hub_that_hangs_before_any_timeout_is_not_waited_for(monkeypatch):
    monkeypatch.setattr(loading, "PATIENCE", -0.5)
    monkeypatch.setattr(HfApi, "model_info", lambda *_, **__: time.sleep(5))
    with pytest.raises(ConnectionError, match="no answer within"):
        loading.locate("me/model")


def test_a_model_in_the_cache_is_loaded_without_the_hub(monkeypatch, tmp_path):
    repo = tmp_path / "models--me--model"
    snapshot = repo / "snapshots" / "abc"
    shutil.copytree(embedded.path("tiny-llava"), snapshot)
    (repo / "refs").mkdir()
    (repo / "refs" / "main").write_text("abc")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.file_download.constants.HF_HUB_CACHE", str(tmp_path))
    assert loading.locate("me/model") == ("me/model", True)


@pytest.mark.usefixtures("online")
def test_a_model_that_the_hub_does_not_have(monkeypatch):
    class Missing(RepositoryNotFoundError):
        def __init__(self) -> None:
            Exception.__init__(self, "404")

    def missing(*_, **__):
        raise Missing

    monkeypatch.setattr(HfApi, "model_info", missing)
    with pytest.raises(ValueError, match=r"model='me/model' is not on .*'tiny-llava'"):
        loading.locate("me/model")


def test_a_name_that_is_no_hub_id():
    with pytest.raises(ValueError, match=r"'me/--model\.\.' is no hub id"):
        loading.locate("me/--model..")


@pytest.mark.usefixtures("online")
def test_a_model_that_the_hub_has(monkeypatch):
    monkeypatch.setattr(HfApi, "model_info", lambda *_, **__: object())
    assert loading.locate("me/model") == ("me/model", False)


def test_a_processor_that_cannot_be_built_is_named(tmp_path, monkeypatch):
    copy = shutil.copytree(embedded.path("tiny-llava"), tmp_path / "mine")

    def fail(*args, **options):
        raise AttributeError("TokenizersBackend has no attribute start_image_token")

    monkeypatch.setattr(AutoProcessor, "from_pretrained", fail)
    with pytest.raises(ValueError, match=r"mine: .*processor .*start_image_token"):
        loading.load(str(copy))
