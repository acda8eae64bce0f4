"""`model.vtc`: what a caller sees of a wrapped model, and the hooks that it takes off again."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any

from torch import nn
from torch.utils.hooks import RemovableHandle

from vtc.adapters import Adapter
from vtc.encoder import install
from vtc.recipes.composition import Recipe

from .columns import read_columns
from .compatibility import uses_flash, without_positions
from .decoder.engine import Engine
from .feature_cache import FeatureCache
from .forward_hooks import ForwardHooks
from .generate_hooks import GenerateHooks
from .pipeline import encoder_cues
from .report import Report
from .wrapped_model import WrappedModel


class Handle:
    """The recipe at work on a model, and the report on the last call."""

    def __init__(self, model: nn.Module, adapter: Adapter, recipe: Recipe) -> None:
        self._wrapped = WrappedModel(model, adapter, recipe)
        self._generate = GenerateHooks(self._wrapped)
        self._forward = ForwardHooks(self._wrapped)
        self._hooks: list[RemovableHandle | Engine] = []

    @property
    def model(self) -> Any:
        """The wrapped model."""
        return self._wrapped.model

    @property
    def recipe(self) -> Recipe:
        """The recipe at work. To change it, call `reduce_tokens` again."""
        return self._wrapped.recipe

    @property
    def report(self) -> Report:
        """The report on the last call on this model that this thread or task made.

        Where it made none, such as where a thread of its own calls `generate` and this one reads the streamer, the
        report on the last call of any thread.

        Raises:
            LookupError: the model was not called since it was wrapped.
        """
        report = self._wrapped.report
        if report is None:
            raise LookupError(
                "no call on this model was made since it was wrapped; call it, then read model.vtc.report"
            )
        return report

    def count(self, **inputs: Any) -> list[int]:
        """Visual tokens that go on for each item of `inputs`, structural ones among them, before any encoder runs.

        Of an adaptive recipe, whose total depends on content, that many at most.
        """
        adapter, builder = self._wrapped.adapter, self._wrapped.builder
        if not adapter.has_media(inputs):
            return []
        frames = self.recipe.images_as == "frames"  # which need the prompt: the images of a row are one item
        media = builder.media(inputs, read_columns(adapter, inputs, None)) if frames else adapter.media(inputs)
        return [self.recipe.count(item.layout) + sum(item.layout.structurals) for item in media]

    def encode_once(self, features: FeatureCache | None = None) -> AbstractContextManager[None]:
        """Reuse encoder outputs between the calls of a block that come with the same media.

        For many questions about one video by a recipe that reads the question, so that nothing behind the encoder can
        be shared. Calls of this thread or task, and of tasks it starts (a new thread begins without the block); none
        that records gradients, and none where the recipe drops nothing, since then the stock model runs. Weights must
        not change within the block. Blocks do not nest: within an inner one the outer one rests.

        Args:
            features: of `feature_cache`, to go on with what an earlier block has encoded, by an equal recipe, also
                where the model was restored and wrapped again meanwhile.
        """
        return (features or self.feature_cache()).at_work(self._wrapped.adapter, self.recipe)

    @staticmethod
    def feature_cache(calls: int = 1) -> FeatureCache:
        """A cache of encoder outputs to share between `encode_once` blocks.

        Args:
            calls: what none of the last so many calls came with is dropped, so that memory is bounded.

        Raises:
            ValueError: `calls` is below 1.
        """
        return FeatureCache(calls)

    def _changing(self) -> AbstractContextManager[None]:
        """The block that detaches the handle: waits for calls of other threads, and has new ones wait.

        Raises:
            RuntimeError: a call of this thread is under way.
        """
        return self._wrapped.gate.change(self.model)

    def _check(self) -> None:
        """Raise ValueError where the model cannot give what the recipe needs. Changes nothing of the model."""
        self._wrapped.check()

    def _attach(self) -> None:
        """Installs the hooks. Nothing stays behind if that fails."""
        try:
            self._hooks += self._wrapped.adapter.listen(encoder_cues(self.recipe))
            self._attach_encoder()
            self._hooks += self._forward.attach()
            self._attach_decoder()
        except Exception:
            self._detach()
            raise
        self._generate.attach()
        self.model.vtc = self

    def _attach_encoder(self) -> None:
        stage = self.recipe.encoder
        if stage is not None:
            self._hooks += install(self._wrapped.adapter.blocks(stage.label, spread=stage.spread))

    def _attach_decoder(self) -> None:
        decoder = self._wrapped.adapter.decoder
        self._wrapped.flash = uses_flash(decoder)
        if self._wrapped.flash:
            self._hooks += [x.register_forward_pre_hook(without_positions, with_kwargs=True) for x in decoder.layers]
        if self.recipe.decoder:
            engine = Engine(decoder, self.recipe.decoder)
            self._hooks.append(engine)
            engine.attach()

    def _detach(self) -> None:
        """Remove every hook; the model is what it was."""
        self._wrapped.claimed.close()
        for hook in self._hooks:
            hook.remove()
        self._hooks.clear()
        if self.model.__dict__.get("vtc") is self:
            self._generate.detach()
            del self.model.__dict__["vtc"]
