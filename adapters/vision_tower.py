"""Vision towers of LLaVA's kind: patches in raster order, perhaps behind a class token."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from vtc.core.tokens import Layout, Reduction, VisualTokens
from vtc.encoder import Blocks, finished

from . import cues as signals
from .base import Adapter
from .cues import InputRecorder, first_argument, split_heads
from .vit_blocks import blocks_of

WITH_CLS = ("clip_vision_model", "internvl_vision")
WITHOUT_CLS = ("siglip_vision_model",)


class Towered(Adapter):
    """A family whose encoder is such a tower."""

    shrinks: ClassVar[bool] = False
    """Whether each patch is one token, so that the tower may give fewer of them."""

    @classmethod
    def serves(cls, model: Any) -> bool:
        """See `Adapter.serves`. Other towers than these have their images in other shapes."""
        return super().serves(model) and model.config.vision_config.model_type in (*WITH_CLS, *WITHOUT_CLS)

    def __init__(self, model: nn.Module) -> None:
        super().__init__(model)
        self._tower = Tower(self.model)

    def input_recorders(self, cues: Sequence[str]) -> list[tuple[nn.Module, InputRecorder]]:
        """See `Adapter.input_recorders`."""
        return self._tower.input_recorders(cues)

    def blocks(self, stage: str, *, spread: bool) -> Blocks:
        """See `Adapter.blocks`."""
        if not spread and not self.shrinks:
            raise ValueError(
                f"stage {stage!r} would leave gaps in the grid of patches that {type(self.model).__name__} makes its "
                "tokens of; have it spread, with a share of its own: Recipe((ToMe(share=0.5, spread=True), KCenter()))"
            )
        return blocks_of(self.model.base_model.vision_tower, self._tower.depth(stage))


class Tower:
    """The vision tower and the projector of one model, as a source of cues.

    The cues come from the layer whose output is the feature (`vision_feature_layer`).
    """

    def __init__(self, model: Any) -> None:
        kind = model.config.vision_config.model_type
        strategy = model.config.vision_feature_select_strategy
        if kind in WITHOUT_CLS and strategy != "full":
            raise ValueError(
                f"vision_feature_select_strategy={strategy!r} drops the first patch of a SigLIP tower, which has no "
                "class token; set it to 'full'"
            )
        self._model = model
        self.has_cls = kind in WITH_CLS

    def check(self, inputs: Mapping[str, Any]) -> None:
        """Refuse a call that asks for other features than the model's config does: the cues would not be theirs."""
        for name in ("vision_feature_layer", "vision_feature_select_strategy"):
            if inputs.get(name) not in (None, getattr(self._model.config, name)):
                raise ValueError(f"{name}={inputs[name]!r} differs from the model's; set it in model.config instead")

    @property
    def passes_cls(self) -> bool:
        """Whether the class token goes to the language model too."""
        return self.has_cls and bool(self._model.config.vision_feature_select_strategy == "full")

    @property
    def side(self) -> int:
        """Patches along a side of an image at the tower's own size."""
        config = self._model.config.vision_config
        size, patch = (v if isinstance(v, int) else v[0] for v in (config.image_size, config.patch_size))
        return int(size) // int(patch)

    def _attention(self, early: bool) -> Any:
        tower = self._model.base_model.vision_tower
        layers: Any = next(m for n, m in tower.named_modules() if n.endswith(("encoder.layers", "encoder.layer")))
        place = self._place(len(layers))
        layer = layers[place // 2 if early else place]
        return layer.self_attn if hasattr(layer, "self_attn") else layer.attention

    def _place(self, layers: int) -> int:
        """The number of the layer whose output is the feature."""
        given = self._model.config.vision_feature_layer
        last = given if isinstance(given, int) else given[-1]
        # hidden_states[0] is the embedding, so a count from the front is one ahead of the layer's own number.
        return layers + last if last < 0 else max(last - 1, 0)

    def depth(self, stage: str) -> Callable[[int], int]:
        """From a tower's number of layers to how many of them make the feature.

        Raises:
            ValueError: the features of several layers are put together, or those of none are taken.
        """
        given = self._model.config.vision_feature_layer
        if not isinstance(given, int) or given == 0:
            raise ValueError(
                f"vision_feature_layer={given!r}: stage {stage!r} folds tokens before the one layer that gives the "
                "features; use a selector such as 'kcenter'"
            )
        return lambda layers: self._place(layers) + 1

    def tokens(self, rows: Sequence[Tensor], layouts: Sequence[Layout]) -> list[VisualTokens]:
        """The features of each of some images of one pass, where an encoder stage folded tokens its survivors'."""
        done = finished()
        if done is None:
            return [VisualTokens(row, layout) for row, layout in zip(rows, layouts, strict=True)]
        found = []
        for row, layout, reduction in zip(rows, layouts, done.reductions(), strict=True):
            folded = _behind_cls(reduction) if self.passes_cls else reduction
            found.append(VisualTokens(row, layout.take(folded.anchor), folded=folded))
        return found

    def input_recorders(self, cues: Sequence[str]) -> list[tuple[nn.Module, InputRecorder]]:
        """The modules to listen to, see `Adapter.input_recorders`."""
        source = (self._model.base_model.multi_modal_projector, "projector")
        return signals.input_recorders(cues, self._attention, source, has_cls=self.has_cls)

    def cue(self, name: str, recorded: Mapping[str, Any]) -> Tensor:
        """The cue for all images of one pass, `[images, N, ...]`: the class token only if it is passed on.

        `encoder_features` is what the projector was given, and so without a class token that is not passed on.
        """
        if name == "encoder_features":
            return first_argument(recorded["projector"])
        early = name == "early_attention"
        attention, hidden = self._attention(early), first_argument(recorded["early" if early else "attention"])
        with torch.no_grad():
            keys = self._projected(attention, hidden, "k")
            if name == "keys":
                return self._without_cls(keys)
            queries = self._projected(attention, hidden, "q")
        heads = int(attention.num_heads)
        queries, keys = split_heads(queries, heads), split_heads(keys, heads)
        scale = float(attention.scale)
        return self._without_cls(signals.attention_values(name, queries, keys, scale, has_cls=self.has_cls))

    @staticmethod
    def _projected(attention: Any, hidden: Tensor, which: str) -> Tensor:
        norm = getattr(attention, f"{which}_norm", None)
        rows: Tensor = getattr(attention, f"{which}_proj")(hidden)
        return rows if norm is None else norm(rows)

    def _without_cls(self, values: Tensor) -> Tensor:
        return values[:, 1:] if self.has_cls and not self.passes_cls else values


def _behind_cls(reduction: Reduction) -> Reduction:
    """`reduction` of patches where the class token stands before them, and stays."""
    zero = reduction.anchor.new_zeros(1)
    assign = torch.where(reduction.assign < 0, reduction.assign, reduction.assign + 1)
    weight = torch.cat([reduction.weight.new_ones(1), reduction.weight])
    return Reduction(torch.cat([zero, reduction.anchor + 1]), torch.cat([zero, assign]), weight)
