"""What recipe an engine and a request ask for, without vLLM."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from vtc.integrations.vllm.settings import fingerprint, packed, recipe_of, unpacked, unservable, without_ours
from vtc.recipes.named import named_recipes, recipe
from vtc.video.stages import Keyframes


def engine(**vtc):
    return SimpleNamespace(vtc=vtc)


def test_an_engine_without_vtc_has_no_recipe_and_refuses_those_of_requests():
    assert recipe_of(SimpleNamespace(), {}) is None
    with pytest.raises(ValueError, match=r"mm_processor_kwargs has 'vtc'=\{'keep': 0.1\}, but the engine runs without"):
        recipe_of(SimpleNamespace(), {"vtc": {"keep": 0.1}})


def test_a_request_stands_before_the_engine_entry_by_entry():
    own = engine(recipe="todre", keep=0.5, seed=3)
    assert recipe_of(own, {}) == recipe("todre", keep=0.5, seed=3)
    assert recipe_of(own, {"vtc": {"keep": 0.1}}) == recipe("todre", keep=0.1, seed=3)
    assert recipe_of(own, {"vtc": {"recipe": "cls"}, "fps": 2}) == recipe("cls", keep=0.5, seed=3)


def test_a_keep_of_1_is_all_of_them_however_json_writes_it():
    assert recipe_of(engine(), {"vtc": {"keep": 1}}).keep == 1.0
    assert isinstance(recipe_of(engine(), {"vtc": {"keep": 1}}).keep, float)
    assert recipe_of(engine(), {"vtc": {"keep": 9}}).keep == 9


def test_a_recipe_may_come_as_what_a_file_holds():
    whole = recipe("kcenter-mean", keep=9).to_dict()
    assert recipe_of(engine(recipe=whole), {}) == recipe("kcenter-mean", keep=9)
    assert recipe_of(engine(recipe=whole, keep=0.5), {}) == recipe("kcenter-mean", keep=0.5)
    assert recipe_of(engine(keep=1.0), {"vtc": {"recipe": whole}}) == recipe("kcenter-mean", keep=9)
    assert recipe_of(engine(keep=1.0), {"vtc": {"recipe": whole, "keep": 0.5}}) == recipe("kcenter-mean", keep=0.5)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"recipe": "kcentre"}, "unknown recipe 'kcentre'; did you mean 'kcenter'"),
        ({"keep": 0}, "keep=0"),
        ({"keep": 1.5}, "keep=1.5"),
        ({"keep": "a"}, "keep='a'"),
        ({"keep": True}, "keep=True"),
        ({"seed": 0.5}, "seed=0.5"),
        ({"kep": 0.5}, r"unknown entries \['kep'\]"),
        ("kcenter", "vtc='kcenter'; expected an object"),
        ({"recipe": "../secret.json"}, "unknown recipe '../secret.json'"),
        ({"recipe": "/etc/recipe"}, "unknown recipe '/etc/recipe'"),
        ({"recipe": {"schema": 9}}, "schema 9"),
        ({"recipe": ["kcenter"]}, r"recipe=\['kcenter'\]; expected a name"),
    ],
)
def test_what_is_no_recipe_is_a_value_error_that_names_it(given, words):
    with pytest.raises(ValueError, match=words):
        recipe_of(engine(), {"vtc": given})


@pytest.mark.parametrize(
    "stages",
    [
        [{"stage": "select/kcenter"}, {"stage": "merge/area"}],
        [{"stage": "select/evs", "floor": 10**400}],
        [{"stage": "select/kcenter"}, {"stage": "merge/fastvid"}],
    ],
)
def test_stages_that_do_not_go_together_are_refused_before_a_worker_meets_them(stages):
    with pytest.raises(ValueError, match=r"."):
        recipe_of(engine(), {"vtc": {"recipe": {"schema": 2, "stages": stages, "keep": 0.3}}})


def test_a_request_has_no_further_model_loaded():
    whole = recipe(Keyframes(features="timm:resnet18")).to_dict()
    with pytest.raises(ValueError, match="a request names no other model"):
        recipe_of(engine(), {"vtc": {"recipe": whole}})


def test_a_folder_of_the_servers_machine_is_not_read(tmp_path, monkeypatch):
    recipe("stride").save_pretrained(tmp_path / "mine")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match="unknown recipe 'mine'"):
        recipe_of(engine(), {"vtc": {"recipe": "mine"}})


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("vqtoken-adaptive", "its count depends on content"),
        ("pyramiddrop", "inside the language model"),
        ("tome", "inside a vision tower"),
        ("sparsevlm", "inside the language model"),
        ("video-question", "it reads the question"),
    ],
)
def test_what_an_engine_cannot_serve_is_refused_with_the_reason(name, words):
    with pytest.raises(ValueError, match=f"recipe '{name}' cannot be served by vLLM: .*{words}"):
        recipe_of(engine(recipe=name), {})


def test_frames_that_are_chosen_before_the_encoder_are_refused():
    assert "chooses frames before the encoder" in unservable(recipe(Keyframes(features="tower")))


def test_images_as_frames_and_compact_positions_are_refused():
    assert "images_as='frames'" in unservable(recipe("video", images_as="frames"))
    assert "positions='compact'" in unservable(recipe("kcenter", positions="compact"))


def test_a_recipe_comes_back_from_its_field_and_unlike_ones_have_unlike_keys():
    able = [found for found in named_recipes() if unservable(found) is None]
    assert len(able) > 25
    for found in able:
        assert unpacked(packed(found)) == found
    assert len({fingerprint(found) for found in able}) == len(able)
    assert fingerprint(recipe("kcenter", keep=0.25)) != fingerprint(recipe("kcenter", keep=0.1))


def test_processors_of_transformers_are_not_shown_what_is_ours():
    assert without_ours({"vtc": {}, "fps": 2}) == {"fps": 2}
