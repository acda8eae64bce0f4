"""What each family's encoder gives for one picture, by hand: from the stock model, one picture at a time, eager.

Nothing here calls an adapter. Slow and plain on purpose: the oracle and the tests of the cues are built on it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import torch
from einops import rearrange, reduce
from torch import Tensor, nn
from torch.nn.functional import interpolate
from torch.overrides import TorchFunctionMode

from vtc import Layout

Picture = dict[str, Tensor]


class Softmaxes(TorchFunctionMode):
    """Collects every softmax that is taken inside: in eager attention, the attention maps."""

    def __init__(self) -> None:
        super().__init__()
        self.maps: list[Tensor] = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        if getattr(func, "__name__", "") == "softmax":
            self.maps.append(out.detach())
        return out


class Outputs:
    """Forward hooks that keep what each of some modules last returned."""

    def __init__(self, **modules: nn.Module) -> None:
        self._modules, self._hooks, self.found = modules, [], {}

    def __enter__(self) -> dict[str, Any]:
        for name, module in self._modules.items():
            note = lambda m, args, out, name=name: self.found.__setitem__(name, out)  # noqa: E731
            self._hooks.append(module.register_forward_hook(note))
        return self.found

    def __exit__(self, *error: object) -> None:
        for hook in self._hooks:
            hook.remove()


class Eye(ABC):
    """One family's encoder by hand."""

    @abstractmethod
    def pictures(self, inputs: dict[str, Tensor]) -> list[Picture]:
        """The pictures of a batch, each with its own part of the inputs."""

    @abstractmethod
    def layout(self, model: nn.Module, picture: Picture) -> Layout:
        """Where the picture's tokens stand."""

    @abstractmethod
    def features(self, model: nn.Module, picture: Picture) -> Tensor:
        """`[N, D]` what the stock model hands to its language model."""

    @abstractmethod
    def cues(self, model: nn.Module, picture: Picture) -> dict[str, Tensor]:
        """All cues of the picture, `[N, ...]`, from an eager model."""

    @abstractmethod
    def smaller(self, model: nn.Module, picture: Picture, height: int, width: int) -> Picture:
        """The picture scaled to `height x width` tokens."""

    @abstractmethod
    def positions(self, model: nn.Module, ids: list[int], pictures: list[Picture]) -> Tensor:
        """`[axes, L]` positions of one unpadded, unreduced prompt, as the stock model counts them."""


class LlavaEye(Eye):
    def pictures(self, inputs):
        return [{"pixel_values": picture} for picture in inputs.get("pixel_values", [])]

    def layout(self, model, picture):
        patch = model.config.vision_config.patch_size
        _, height, width = picture["pixel_values"].shape
        grid = Layout.of_grid(height // patch, width // patch)
        if not self._passes_cls(model):
            return grid
        return Layout(
            unit=torch.zeros(1 + len(grid), dtype=torch.int64),
            cell=torch.cat([torch.full((1, 3), -1), grid.cell]),
            structural=torch.arange(1 + len(grid)) == 0,
            grids=grid.grids,
            kinds=grid.kinds,
        )

    def _has_cls(self, model):
        return model.config.vision_config.model_type.startswith("clip")

    def _passes_cls(self, model):
        return self._has_cls(model) and model.config.vision_feature_select_strategy == "full"

    @torch.no_grad()
    def features(self, model, picture):
        size = model.config.vision_config.image_size
        pixels = picture["pixel_values"][None]
        extra = {} if pixels.shape[2:] == (size, size) else {"interpolate_pos_encoding": True}
        return model.model.get_image_features(pixels, **extra).pooler_output[0]

    @torch.no_grad()
    def cues(self, model, picture):
        tower = model.model.vision_tower
        size, pixels = model.config.vision_config.image_size, picture["pixel_values"][None]
        extra = {} if pixels.shape[2:] == (size, size) else {"interpolate_pos_encoding": True}
        layer = next(m for n, m in tower.named_modules() if n.endswith(f"layers.{self._layer(model)}"))
        with Outputs(keys=layer.self_attn.k_proj) as found:
            out = tower(pixels, output_attentions=True, output_hidden_states=True, **extra)
        attention = out.attentions[self._layer(model)][0].mean(dim=0)
        first = 1 if self._has_cls(model) and not self._passes_cls(model) else 0
        cues = {
            "received_attention": attention.mean(dim=0)[first:],
            "keys": found["keys"][0, first:],
            "encoder_features": out.hidden_states[model.config.vision_feature_layer][0, first:],
        }
        if self._has_cls(model):
            row = attention[0, 1:]
            cues["cls_attention"] = row if first else torch.cat([torch.zeros(1), row])
        return {**cues, "attention": cues.get("cls_attention", cues["received_attention"])}

    def _layer(self, model):
        """The number of the layer whose output is the feature."""
        return model.config.vision_config.num_hidden_layers + model.config.vision_feature_layer

    def smaller(self, model, picture, height, width):
        patch = model.config.vision_config.patch_size
        size = (height * patch, width * patch)
        return {"pixel_values": interpolate(picture["pixel_values"][None], size, mode="bicubic", antialias=True)[0]}

    def positions(self, model, ids, pictures):
        return torch.arange(len(ids))[None]


class QwenEye(Eye):
    def pictures(self, inputs):
        if "pixel_values" not in inputs:
            return []
        grids = inputs["image_grid_thw"]
        parts = inputs["pixel_values"].split(grids.prod(-1).tolist())
        return [{"pixel_values": patches, "image_grid_thw": grid} for patches, grid in zip(parts, grids, strict=True)]

    def layout(self, model, picture):
        frames, height, width = picture["image_grid_thw"].tolist()
        return Layout.of_grid(height // 2, width // 2, frames=frames)

    @torch.no_grad()
    def features(self, model, picture):
        grids = picture["image_grid_thw"][None]
        return model.model.get_image_features(picture["pixel_values"], grids).pooler_output[0]

    @torch.no_grad()
    def cues(self, model, picture):
        visual, layers = model.model.visual, model.config.vision_config.fullatt_block_indexes
        attention = visual.blocks[layers[-1]].attn
        with Softmaxes() as soft, Outputs(qkv=attention.qkv, merger=visual.merger) as found:
            # The one map that is taken inside the block of full attention.
            hook = attention.register_forward_pre_hook(lambda *_: soft.maps.clear())
            stop = attention.register_forward_hook(lambda *_: found.update(maps=list(soft.maps)))
            out = visual(picture["pixel_values"], picture["image_grid_thw"][None])
        hook.remove()
        stop.remove()
        ((full,),) = found["maps"]
        # Where each row of the merger, in window order, stands among the features, in raster order.
        place = (found["merger"][:, None] == out.pooler_output[None]).all(dim=-1).long().argmax(dim=1)
        received = full.mean(dim=0).mean(dim=0)
        patches = {
            "received_attention": received,
            "keys": found["qkv"].chunk(3, dim=-1)[1],
            "encoder_features": out.last_hidden_state,
        }
        cues = {}
        for name, values in patches.items():
            tokens = reduce(values, "(n four) ... -> n ...", "mean", four=4)
            cues[name] = torch.empty_like(tokens).index_copy(0, place, tokens)
        return {**cues, "attention": cues["received_attention"]}

    def smaller(self, model, picture, height, width):
        frames, h, w = picture["image_grid_thw"].tolist()
        p = model.config.vision_config.patch_size
        video = rearrange(
            picture["pixel_values"],
            "(t h w a b) (c d p q) -> (t d) c (h a p) (w b q)",
            t=frames, h=h // 2, w=w // 2, a=2, b=2, c=3, d=2, p=p, q=p,
        )  # fmt: skip
        small = interpolate(video, (height * 2 * p, width * 2 * p), mode="bicubic", antialias=True)
        patches = rearrange(
            small, "(t d) c (h a p) (w b q) -> (t h w a b) (c d p q)", t=frames, a=2, b=2, d=2, p=p, q=p
        )
        return {"pixel_values": patches, "image_grid_thw": torch.tensor([frames, height * 2, width * 2])}

    def positions(self, model, ids, pictures):
        line = torch.tensor([ids])
        types = (line == model.config.image_token_id).int()
        grids = torch.stack([p["image_grid_thw"] for p in pictures]) if pictures else None
        if grids is None:
            return torch.arange(len(ids)).expand(3, -1)
        return model.model.get_rope_index(line, types, image_grid_thw=grids)[0][:, 0]


EYES: dict[str, Eye] = {
    "llava": LlavaEye(),
    "llava-siglip": LlavaEye(),
    "llava-full": LlavaEye(),
    "qwen25vl": QwenEye(),
}
