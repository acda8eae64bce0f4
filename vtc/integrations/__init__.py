"""Hosts that call a wrapped model: lmms-eval, VLMEvalKit, the transformers Trainer."""
