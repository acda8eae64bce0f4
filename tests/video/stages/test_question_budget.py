"""Clip budgets that look at the question: its rule, what it falls back to, and that it must be asked something."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.video.stages.test_two_densities import SIDE, video
from tests.video.stages.videos import with_newlines
from vtc.core.tokens import QUESTION
from vtc.recipes.composition import Recipe
from vtc.recipes.named import recipe
from vtc.stages import Even, KCenter
from vtc.video.stages import ClipBudget, QuestionBudget
from vtc.video.stages.question_budget import relevance

WORDS = torch.randn(5, 12, generator=torch.Generator().manual_seed(9))


def asked(frames: int = 12, words: torch.Tensor = WORDS, seed: int = 0):
    """Three shots of noise and a question."""
    tokens = video(frames, seed=seed)
    return replace(tokens, cues={**tokens.cues, QUESTION: words})


def counts(stage, tokens, total: int) -> list[int]:
    return [count for _, count in stage.pools(tokens, total)]


@given(frames=st.integers(1, 8), seed=st.integers(0, 30))
def test_relevance_is_the_best_match_of_a_token_and_a_word(frames, seed):
    tokens = asked(frames, seed=seed)
    rows = torch.nn.functional.normalize(tokens.features, dim=1)
    rows = torch.nn.functional.normalize(rows - rows.mean(dim=0), dim=1)
    words = torch.nn.functional.normalize(WORDS, dim=1)
    words = torch.nn.functional.normalize(words - words.mean(dim=0), dim=1)
    wanted = torch.stack([(rows[t * SIDE**2 : (t + 1) * SIDE**2] @ words.T).max() for t in range(frames)])
    if float(rows.norm(dim=1).min()) > 0.5:  # a video of one look has no row left
        torch.testing.assert_close(relevance(tokens), wanted, atol=1e-4, rtol=0)
    lined = replace(with_newlines(tokens), cues=tokens.cues)
    assert torch.equal(relevance(lined), relevance(tokens))


def test_the_clip_that_shows_what_is_asked_for_gets_more():
    tokens = asked()
    plain = counts(ClipBudget(), tokens, 60)
    shown = replace(tokens, cues={**tokens.cues, QUESTION: torch.cat([WORDS, 9 * tokens.features[5 * SIDE**2][None]])})
    more = counts(QuestionBudget(relevance=2), shown, 60)
    assert len(more) == len(plain) == 3
    assert more[1] > 1.5 * plain[1]
    assert sum(more) == 60


def test_without_weight_or_with_flat_scores_it_is_clip_budget():
    tokens = asked()
    assert counts(QuestionBudget(relevance=0), tokens, 60) == counts(ClipBudget(), tokens, 60)
    still = replace(tokens, features=torch.ones_like(tokens.features))
    assert counts(QuestionBudget(), still, 60) == counts(ClipBudget(), still, 60)
    spoilt = replace(tokens, features=torch.full_like(tokens.features, torch.nan))
    assert sum(counts(QuestionBudget(), spoilt, 60)) == 60


def test_a_video_about_which_nothing_is_asked_is_refused():
    with pytest.raises(ValueError, match="no text beside the video; ask something"):
        QuestionBudget().pools(asked(words=torch.zeros(0, 12)), 60)


def test_what_is_no_video_is_shared_evenly_and_the_recipe_travels(tmp_path):
    tokens = replace(video(4, kind="tile"), cues={QUESTION: WORDS})
    one, even = (Recipe((stage, KCenter())).reduce(tokens, 13).anchor for stage in (QuestionBudget(), Even()))
    assert one.tolist() == even.tolist()
    made = recipe("video-question")
    made.save(tmp_path / "r.json")
    assert Recipe.load(tmp_path / "r.json") == made
    assert made.is_video_recipe
    assert QUESTION in made.cues
    with pytest.raises(ValueError, match="relevance=-1"):
        QuestionBudget(relevance=-1)
