"""The questions: from a file of the user's own, and from the drawn world."""

from __future__ import annotations

import json
import pickle
import re
from collections import Counter

import pytest
import torch

from tools.train_embedded.model_specs import MODEL_SPECS
from vtc.bench.cases import read
from vtc.bench.config import BenchConfig, fingerprint
from vtc.bench.evaluate import Evaluator
from vtc.bench.synthetic import first_seed, skills, synthetic_cases
from vtc.bench.variants import (
    ALL_TOKENS,
    TEXT_ALONE,
    Variant,
    chosen,
    parse_keeps,
)
from vtc.embedded.samples import samples
from vtc.recipes.named import recipe
from vtc.recipes.registration import RECIPES

GOOD = {"image": "a.png", "question": "what?"}


def written(tmp_path, *lines):
    path = tmp_path / "data.jsonl"
    path.write_text("".join((line if isinstance(line, str) else json.dumps(line)) + "\n" for line in lines))
    return path


def test_a_file_is_read_relative_to_its_folder(tmp_path):
    full = {**GOOD, "answer": "a star", "skill": "what", "id": 7, "source": "me"}
    cases, unread = read(written(tmp_path, full, GOOD))
    assert unread == ["source"]
    assert [case.id for case in cases] == ["7", "line 2"]
    assert cases[0].scene == cases[1].scene == str((tmp_path / "a.png").resolve())
    assert (cases[0].answer, cases[0].skill) == ("a star", "what")
    assert (cases[1].answer, cases[1].skill) == (None, None)
    with pytest.raises(FileNotFoundError, match=r"a\.png: no such file"):
        cases[0].image()


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("", "line 2 is empty; remove it"),
        ("   ", "line 2 is empty; remove it"),
        ("{", "line 2 is no JSON"),
        ("[1]", "line 2 is a JSON list, not an object; expected"),
        ({"image": "a.png"}, "line 2 has no 'question'"),
        ({"question": "q", "imge": "a.png"}, "line 2 has no 'image'; did you mean 'imge'"),
        ({**GOOD, "question": " "}, "line 2: question=' ' is empty"),
        ({**GOOD, "question": None}, "line 2: question=None is a NoneType"),
        ({**GOOD, "answer": 3}, "line 2: answer=3 is a int; expected text"),
        ({**GOOD, "answer": ""}, "line 2: answer='' is empty"),
        ({**GOOD, "id": "line 1"}, "line 2: id 'line 1' was given in line 1"),
    ],
)
def test_a_bad_line_is_named_by_its_number(tmp_path, line, message):
    with pytest.raises(ValueError, match=rf"data\.jsonl, {re.escape(message)}"):
        read(written(tmp_path, GOOD, line, GOOD))


def test_files_that_hold_nothing(tmp_path):
    with pytest.raises(ValueError, match="holds no line"):
        read(written(tmp_path))
    with pytest.raises(FileNotFoundError, match="no such file"):
        read(tmp_path / "other.jsonl")
    (tmp_path / "latin.jsonl").write_bytes(b'{"image": "\xe9.png"}\n')
    with pytest.raises(ValueError, match="line 1 is not UTF-8"):
        read(tmp_path / "latin.jsonl")


def test_drawn_questions_are_even_and_always_the_same():
    cases = synthetic_cases("tiny-llava", 120)
    assert len(cases) == len({case.id for case in cases}) == 120
    assert cases == synthetic_cases("tiny-llava", 120)
    assert max(Counter(case.scene for case in cases).values()) == 4
    tally = Counter(case.skill for case in cases)
    assert set(tally) <= set(skills())
    assert max(tally.values()) <= min(tally.values()) + 4
    assert synthetic_cases("tiny-llava", 50) == cases[:50]
    native = Counter(case.skill for case in synthetic_cases("tiny-internvl", 120))
    assert set(native) == set(skills())
    assert {case.scene for case in synthetic_cases("tiny-llava", 8, first_seed() + 500)}.isdisjoint(
        case.scene for case in cases
    )


def test_drawn_questions_follow_the_models_view_and_shift():
    plain, native, shifted = (
        synthetic_cases("tiny-llava", 8),
        synthetic_cases("tiny-internvl", 8),
        synthetic_cases("tiny-llava", 8, shifted=True),
    )
    assert synthetic_cases("me/model", 8) == plain
    assert synthetic_cases("/somewhere/tiny-internvl", 8) == native
    images = [[case.image().tobytes() for case in cases] for cases in (plain, native, shifted)]
    assert images[0] != images[1]
    assert images[0] != images[2]


def test_drawn_questions_of_some_skills_and_of_few_a_scene():
    first, second = skills()[:2]
    cases = synthetic_cases("tiny-llava", 30, per_scene=1, only=[first, second])
    assert {case.skill for case in cases} == {first, second}
    assert len({case.scene for case in cases}) == 30


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n": 0}, "--n 0; expected"),
        ({"n": -1}, "--n -1; expected"),
        ({"per_scene": 0}, "--per-scene 0"),
        ({"batch": 0}, "--batch 0"),
        ({"skills": ("colour",)}, "--skills 'colour' is unknown; did you mean 'color'?"),
        ({"skills": ("fine",)}, "--skills fine: 2000 scenes on end ask no such question of tiny-llava"),
        ({"first": 5}, "--first 5 was trained on; unseen seeds are"),
        ({"first": 2**41}, "watches over training; unseen seeds are"),
        ({"keeps": (1.5,)}, "keep=1.5 is outside"),
        ({"keeps": ()}, "--keep is empty"),
        ({"models": ()}, "--models is empty"),
        ({"models": ("tiny-llava", "tiny-llava")}, "names a model twice"),
        ({"models": ("tiny-lava",)}, "did you mean 'tiny-llava'"),
    ],
)
def test_a_plan_that_cannot_be_is_refused(options, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        BenchConfig(**{"models": ("tiny-llava",), "recipes": (recipe(),), **options}).to_dict()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n": 3}, "--n 3: .* holds 2 questions; leave --n out"),
        ({"skills": ("tint",)}, "--skills 'tint' is unknown.*known: color"),
        ({"first": 2**40}, "--first .* chooses among drawn scenes, and --data .* names others"),
        ({"shifted": True}, "--shifted True chooses"),
    ],
)
def test_a_plan_for_own_data_that_cannot_be_is_refused(tmp_path, options, message):
    path = written(tmp_path, {**GOOD, "skill": "color"}, GOOD)
    with pytest.raises(ValueError, match=message):
        BenchConfig(("tiny-llava",), (recipe(),), data=path, **options).to_dict()


def test_a_plan_travels_without_its_images():
    bench_config = BenchConfig(("tiny-llava",), (recipe(),), n=10)
    ids = [case.id for case in bench_config.cases("tiny-llava")]
    other = pickle.loads(pickle.dumps(bench_config))
    assert [case.id for case in other.cases("tiny-llava")] == ids
    assert other.to_dict() == bench_config.to_dict()


def test_the_config_follows_what_answers_depend_on(tmp_path):
    image = samples()[0].path
    line = {"image": str(image), "question": "what?"}
    path = written(tmp_path, line)
    before = BenchConfig(("tiny-llava",), (recipe(),), data=path).to_dict()
    assert BenchConfig(("tiny-llava",), (recipe(),), data=path).to_dict() == before
    assert BenchConfig(("tiny-llava",), (recipe(seed=1),), data=path).to_dict() != before
    written(tmp_path, {**line, "question": "which?"})
    assert BenchConfig(("tiny-llava",), (recipe(),), data=path).to_dict() != before
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "model.safetensors").write_bytes(b"1")
    weights = fingerprint(str(tmp_path))
    (tmp_path / "model.safetensors").write_bytes(b"2")
    assert fingerprint(str(tmp_path)) != weights


def test_recipes_and_keeps_by_name(tmp_path):
    found, text_alone = chosen([])
    names = list(RECIPES)
    assert [one.name for one in found] == names[: names.index("uniform")]  # recipes of videos add themselves last
    assert {"video", "evs", "langdc"} < set(names[names.index("uniform") :])
    assert text_alone
    assert [one.name for one in chosen([], videos=True)[0]] == list(RECIPES)
    found, text_alone = chosen(["stride"], "compact", 3)
    assert (found[0].positions, found[0].seed, text_alone) == ("compact", 3, False)
    assert parse_keeps("1,.5,64") == (1.0, 0.5, 64)
    assert isinstance(parse_keeps("1")[0], float)
    recipe("stride").save(tmp_path / "mine.json")
    for names, message in (
        (["kcentre"], "did you mean 'kcenter'"),
        (["stride", str(tmp_path / "mine.json")], "'stride' is named twice"),
    ):
        with pytest.raises(ValueError, match=message):
            chosen(names)
    for text, message in (("1,many", "'many' is no number"), (".5,0.5", "twice")):
        with pytest.raises(ValueError, match=message):
            parse_keeps(text)


def test_videos_are_drawn_as_clips_and_answered_in_a_batch():
    torch.manual_seed(0)
    model_spec = MODEL_SPECS["tiny-qwen"]
    model, processor = model_spec.build_model().eval(), model_spec.build_processor()
    torch.nn.init.normal_(model.lm_head.weight, std=0.5)
    cases = synthetic_cases("tiny-qwen", 12, videos=True, per_scene=2)
    assert {case.skill for case in cases} <= set(skills(videos=True))
    assert {len(case.image()) for case in cases} <= {8, 12, 16}
    variants = [ALL_TOKENS, TEXT_ALONE, Variant("kcenter", 0.25, recipe("kcenter", keep=0.25))]
    scorer = Evaluator("tiny-qwen", model, processor, variants, 4)
    rows = {(row.name, row.id): row for row in scorer.rows(cases)}
    assert scorer.refused == []
    assert all(row.error is None for row in rows.values())
    for case in cases:
        frames = len(case.image())
        assert rows["full", case.id].tokens == 18 * frames
        assert rows["kcenter", case.id].tokens == round(18 * frames / 4 + 1e-9)
        assert rows["none", case.id].tokens == 0
    alone = Evaluator("tiny-qwen", model, processor, variants[:1], 4).rows(cases[:1])
    assert next(alone).given == rows["full", cases[0].id].given
    with pytest.raises(ValueError, match="--skills 'text' is unknown"):
        synthetic_cases("tiny-qwen", 2, only=["text"], videos=True)
