"""Names that differ between the versions of transformers that the tests run on."""

import inspect

from transformers import LlavaForConditionalGeneration

CACHE = "cache" if "cache" in inspect.signature(LlavaForConditionalGeneration.forward).parameters else "past_key_values"
