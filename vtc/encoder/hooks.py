"""The hooks on a tower's blocks. They do nothing outside of `merging`, and hold nothing.

The paper folds between attention and MLP, where the block holds its residual in a variable that no hook can reach. So
the norm before the MLP is given the folded tokens; what the MLP answers is given back to all of them, and added to
their residuals by the block itself; and the block's output is folded in the same way. The mean of sums with one common
term is the mean plus that term: the outcome is the paper's, and norm and MLP run on the survivors only.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from .blocks import Block, Blocks
from .merge_state import current
from .merge_steps import take


def install(blocks: Blocks) -> list[RemovableHandle]:
    """Put the hooks on every block; removing the handles undoes it."""
    return [handle for index in range(len(blocks.blocks)) for handle in _BlockHooks(blocks, index).install()]


def is_hooked(blocks: Blocks) -> bool:
    """Return whether `install` was called on these blocks."""
    hooks = blocks.blocks[0].layer._forward_pre_hooks.values()
    return any(isinstance(getattr(hook, "__self__", None), _BlockHooks) for hook in hooks)


class _BlockHooks:
    def __init__(self, blocks: Blocks, index: int) -> None:
        self._blocks, self._index = blocks, index
        self._block: Block = blocks.blocks[index]
        self._last = index == len(blocks.blocks) - 1

    def install(self) -> list[RemovableHandle]:
        """Install the hooks on the block; their handles remove them."""
        block = self._block
        return [
            block.layer.register_forward_pre_hook(self._enter, with_kwargs=True),
            block.attention.register_forward_pre_hook(self._weigh, with_kwargs=True),
            block.queries.register_forward_hook(self._note_queries),
            block.keys.register_forward_hook(self._note_keys),
            block.norm.register_forward_pre_hook(self._shorten),
            block.mlp.register_forward_hook(self._lengthen),
            # First of all, so that what others collect of hidden states is what the next block gets.
            block.layer.register_forward_hook(self._leave, prepend=True),
        ]

    def _enter(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        work = current(self._blocks)
        if work is not None and self._index == 0:
            work.begin(self._blocks, _first(args, kwargs))

    def _weigh(
        self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]] | None:
        """Proportional attention: log(size) of each key."""
        work, name = current(self._blocks), self._block.mask
        if work is None or work.running is None:
            return None
        if len(args) > 1 or kwargs.get(name) is not None:
            raise ValueError(
                f"{name} reached {type(module).__name__}: images with padding are not folded inside the tower; use a "
                "selector such as 'kcenter'"
            )
        size = work.running.state.size
        if not work.stage.proportional or size.shape[1] == work.running.state.assign.shape[1]:
            return None
        bias = size.log()[:, None, None].to(_first(args, kwargs).dtype)
        return args, {**kwargs, name: bias}

    def _note_queries(self, module: nn.Module, args: tuple[Any, ...], output: Tensor) -> None:
        work = current(self._blocks)
        if work is not None and work.running is not None:
            work.running.queries = output.detach()

    def _note_keys(self, module: nn.Module, args: tuple[Any, ...], output: Tensor) -> None:
        work = current(self._blocks)
        if work is not None and work.running is not None:
            work.running.keys = output.detach()

    def _shorten(self, module: nn.Module, args: tuple[Any, ...]) -> tuple[Tensor] | None:
        work = current(self._blocks)
        if work is None or work.running is None:
            return None
        fold = work.decide(self._blocks, self._block, self._index, args[0])
        return None if fold is None else (fold.merged(args[0]),)

    def _lengthen(self, module: nn.Module, args: tuple[Any, ...], output: Tensor) -> Tensor | None:
        work = current(self._blocks)
        fold = None if work is None or work.running is None else work.running.fold
        return None if fold is None else fold.spread(output)

    def _leave(self, module: nn.Module, args: tuple[Any, ...], output: Any) -> Any:
        work = current(self._blocks)
        if work is None or work.running is None:
            return None
        rows: Tensor = output[0] if isinstance(output, tuple) else output
        fold = work.running.fold
        short = rows if fold is None else fold.merged(rows)
        state = work.advance(self._blocks, self._index)
        if self._last and work.stage.spread:
            short = take(short, state.assign)
        return (short, *output[1:]) if isinstance(output, tuple) else short


def _first(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor:
    tensor: Tensor = args[0] if args else kwargs["hidden_states"]
    return tensor
