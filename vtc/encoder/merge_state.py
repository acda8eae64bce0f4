"""Per-call state of an encoder stage (thread- and task-local); hooks have no other state."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

import torch
from torch import Tensor

from vtc.core.budget import Budget, Keep

from .blocks import Block, Blocks
from .merge_schedule import MergeSchedule
from .merge_steps import LayerView, MergeHistory, MergeStep


@dataclass
class TowerPass:
    """One run of a tower.

    Attributes:
        left: candidates behind each block.
        state: what the tokens of now are made of.
        queries, keys: of the block at work.
        fold: its step, once it is decided.
    """

    left: tuple[int, ...]
    state: MergeHistory
    queries: Tensor | None = None
    keys: Tensor | None = None
    fold: MergeStep | None = None


@dataclass
class EncoderMergeState:
    """A stage at work, and the runs of towers that it saw.

    Attributes:
        stage: the encoder stage.
        keep: the share of each image's patches that survive, or at most that many.
        running: the run that is under way.
        done: what came of the last one that ended, patches only.
        blocks: of the only tower that it is about; None where it is about any.
        outer: the work around it, for other towers.
    """

    stage: MergeSchedule
    keep: Keep
    running: TowerPass | None = None
    done: MergeHistory | None = None
    blocks: Blocks | None = None
    outer: EncoderMergeState | None = None

    def begin(self, blocks: Blocks, hidden: Tensor) -> None:
        """A tower starts on `hidden` `[B, N, D]`."""
        blocks.check(self.stage)
        images, tokens = hidden.shape[:2]
        candidates = tokens - blocks.prefix
        left = self.stage.schedule(candidates, Budget(self.keep).count(candidates), len(blocks.blocks))
        self.running, self.done = TowerPass(left, MergeHistory.start(images, tokens, hidden.device)), None

    def decide(self, blocks: Blocks, block: Block, index: int, hidden: Tensor) -> MergeStep | None:
        """The step of block `index`, whose norm is about to get `hidden`; None where nothing goes."""
        run = self.running
        assert run is not None
        if run.left[index] == run.state.size.shape[1] - blocks.prefix:
            return None
        assert run.keys is not None
        assert run.queries is not None
        keys, queries = block.by_head(run.keys), block.by_head(run.queries)
        view = LayerView(
            hidden=hidden.detach(),
            keys=keys,
            queries=queries,
            size=run.state.size,
            scale=block.scale,
            prefix=blocks.prefix,
            has_cls=blocks.has_cls,
            layer=index,
            patches=run.state.assign.shape[1] - blocks.prefix,
        )
        # Scores are fp32 even where the caller runs under autocast.
        with torch.no_grad(), torch.autocast(hidden.device.type, enabled=False):
            run.fold = self.stage.fold(view, run.left[index])
        return run.fold

    def advance(self, blocks: Blocks, index: int) -> MergeHistory:
        """Block `index` is over. Answers what the tokens are made of now."""
        run = self.running
        assert run is not None
        if run.fold is not None:
            run.state = run.state.then(run.fold)
        run.queries = run.keys = run.fold = None
        if index == len(blocks.blocks) - 1:
            self.running, self.done = None, run.state.without(blocks.prefix)
        return run.state


# Hooks hang on a tower that several threads or tasks may run at once; a context variable gives each its own state.
_work: ContextVar[EncoderMergeState | None] = ContextVar("vtc_tower", default=None)


@contextmanager
def merging(
    stage: MergeSchedule | None, keep: Keep, blocks: Blocks | None = None
) -> Iterator[EncoderMergeState | None]:
    """Context manager: hooked towers, or the one of `blocks`, fold tokens, in this thread or task only.

    With no stage, none do.
    """
    work = (
        None if stage is None else EncoderMergeState(stage, keep, blocks=blocks, outer=_work.get() if blocks else None)
    )
    token = _work.set(work)
    try:
        yield work
    finally:
        _work.reset(token)


def current(blocks: Blocks) -> EncoderMergeState | None:
    """The work of this thread or task that is about the tower of `blocks`."""
    work = _work.get()
    while work is not None and work.blocks is not None and work.blocks is not blocks:
        work = work.outer
    return work


def finished() -> MergeHistory | None:
    """Return the reduction of the tower's last run, patches only; None where no stage is active, or it spreads.

    Where a stage spreads, the tower's output has all its places, and nothing is missing from it.
    """
    work = _work.get()
    if work is None or work.stage.spread:
        return None
    assert work.done is not None, "no tower with hooks ran"
    return work.done
