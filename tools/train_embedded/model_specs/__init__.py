"""Specs of the embedded models: one file a model, with all that training must know of it."""

from tools.train_embedded.model_specs.base import ModelSpec
from tools.train_embedded.model_specs.internvl import TinyInternVL
from tools.train_embedded.model_specs.llava import TinyLlava
from tools.train_embedded.model_specs.qwen import TinyQwen

MODEL_SPECS: dict[str, ModelSpec] = {
    model_spec.name: model_spec for model_spec in (TinyLlava(), TinyQwen(), TinyInternVL())
}
