"""A wrapping that is changed while calls are under way: each call ends as it began, and none answers blind."""

from __future__ import annotations

import copy
import pickle
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from transformers import LogitsProcessor, LogitsProcessorList

from tests.checks import check_same
from tests.families import (
    llava,
    llava_inputs,
    qwen25vl,
    qwen_inputs,
)
from vtc import reduce_tokens, reduced, restore
from vtc.reduction import call_gate
from vtc.reduction.call_gate import CallGate

ONE = [[3, (1,), 5]]
STEPS = dict(max_new_tokens=4, do_sample=False, eos_token_id=None, output_logits=True, return_dict_in_generate=True)
MAKERS = {"llava": (llava, llava_inputs, "kcenter"), "qwen": (qwen25vl, qwen_inputs, "kcenter+feather")}
each_maker = pytest.mark.parametrize("name", MAKERS)


def logits(model, inputs, **options):
    return torch.stack(model.generate(**inputs, **STEPS, **options).logits)


class Paused:
    """Halts whoever comes to it until it is let go."""

    def __init__(self):
        self.reached, self.free = threading.Event(), threading.Event()

    def __call__(self, *args):
        self.reached.set()
        assert self.free.wait(20)


def started(function):
    box = []
    thread = threading.Thread(target=lambda: box.append(function()), daemon=True)
    thread.start()
    return thread, box


@each_maker
@pytest.mark.parametrize("way", ["generate", "forward"])
@pytest.mark.parametrize("change", ["restore", "wrap again"])
def test_a_call_of_another_thread_ends_as_it_began(name, way, change):
    build, make, recipe = MAKERS[name]
    model, inputs = build(), make(ONE)
    call = (lambda: logits(model, inputs)) if way == "generate" else (lambda: model(**inputs).logits)
    stock = call()
    want = {keep: call() for keep in (0.25, 0.5) if reduce_tokens(model, recipe, keep=keep)}
    reduce_tokens(model, recipe, keep=0.25)
    paused = Paused()
    hook = model.get_decoder().register_forward_pre_hook(lambda *args: paused())
    first, answer = started(call)
    assert paused.reached.wait(20)
    hook.remove()
    changed, _ = started(lambda: restore(model) if change == "restore" else reduce_tokens(model, recipe, keep=0.5))
    changed.join(0.3)
    assert changed.is_alive()  # waits
    later, afterwards = started(call)  # and holds who comes later
    later.join(0.3)
    assert later.is_alive()
    paused.free.set()
    for thread in (first, changed, later):
        thread.join(20)
    check_same(answer[0], want[0.25], "the call under way")
    check_same(afterwards[0], stock if change == "restore" else want[0.5], "the call after the change")
    restore(model)
    check_same(call(), stock, "the model restored")


@each_maker
def test_a_callback_cannot_change_the_wrapping_of_its_own_call(name):
    build, make, recipe = MAKERS[name]
    model, inputs = reduce_tokens(build(), recipe, keep=0.25), make(ONE)
    want = logits(model, inputs)

    class Change(LogitsProcessor):
        def __call__(self, ids, scores):
            for change in (restore, reduce_tokens, lambda model: reduced(model).__enter__()):
                with pytest.raises(RuntimeError, match=r"under way.*restore or reduce_tokens"):
                    change(model)
            return scores

    check_same(logits(model, inputs, logits_processor=LogitsProcessorList([Change()])), want, "logits")
    check_same(logits(model, inputs), want, "logits")


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
@pytest.mark.parametrize("way", ["generate", "forward"])
def test_a_call_that_fails_is_over(way, error):
    model, inputs = reduce_tokens(llava(), keep=0.25), llava_inputs(ONE)

    def fail(*args):
        raise error

    hook = model.get_decoder().register_forward_pre_hook(fail)
    with pytest.raises(error):
        logits(model, inputs) if way == "generate" else model(**inputs)
    hook.remove()
    thread, _ = started(lambda: restore(model))
    thread.join(20)
    assert not thread.is_alive()
    assert "vtc" not in vars(model)


def test_calls_inside_of_a_call_do_not_wait_for_the_change_that_waits_for_it():
    model, inputs = reduce_tokens(llava(), keep=0.25), llava_inputs(ONE)
    paused, inner = Paused(), []

    class Nested(LogitsProcessor):
        def __call__(self, ids, scores):
            if not inner:
                paused()
                inner.append(model(**inputs).logits)
            return scores

    outer, _ = started(lambda: logits(model, inputs, logits_processor=LogitsProcessorList([Nested()])))
    assert paused.reached.wait(20)
    changed, _ = started(lambda: restore(model))
    changed.join(0.2)
    paused.free.set()
    for thread in (outer, changed):
        thread.join(20)
        assert not thread.is_alive()
    assert len(inner) == 1


def test_copies_of_a_wrapped_model_have_gates_of_their_own():
    model = reduce_tokens(llava(), keep=0.25)
    with model.vtc._wrapped.gate.call(model):
        twin = copy.deepcopy(model)
        thread, _ = started(lambda: restore(twin))
        thread.join(20)
        assert not thread.is_alive()
    assert isinstance(pickle.loads(pickle.dumps(CallGate())), CallGate)


def test_changes_of_two_threads_come_one_after_the_other():
    gate, order = CallGate(), []
    with gate.change(None):
        thread, _ = started(lambda: _note(gate, order))
        thread.join(0.2)
        order.append("first")
    thread.join(20)
    assert order == ["first", "second"]


def _note(gate, order):
    with gate.change(None):
        order.append("second")


def test_threads_that_wrap_at_once_leave_one_wrapping():
    model, inputs = llava(), llava_inputs(ONE)
    stock = model(**inputs).logits
    hooks = [len(module._forward_pre_hooks) for module in model.modules()]
    start = threading.Barrier(6)

    def wrap(keep):
        start.wait(20)
        reduce_tokens(model, keep=keep)

    threads = [started(lambda keep=keep: wrap(keep))[0] for keep in (1, 2, 3, 4, 5, 6)]
    for thread in threads:
        thread.join(20)
        assert not thread.is_alive()
    model(**inputs)
    assert model.vtc.report.after == model.vtc.recipe.keep
    check_same(restore(model)(**inputs).logits, stock, "the model restored")
    assert [len(module._forward_pre_hooks) for module in model.modules()] == hooks


def test_an_interrupted_forward_whose_traceback_lives_on_is_over():
    model, inputs = reduce_tokens(llava(), keep=0.25), llava_inputs(ONE)

    def interrupt(*args):
        raise KeyboardInterrupt

    hook = model.get_decoder().register_forward_pre_hook(interrupt)
    with ThreadPoolExecutor(1) as pool:
        failed = pool.submit(lambda: model(**inputs))
        assert isinstance(failed.exception(20), KeyboardInterrupt)  # holds the traceback, and with it the arguments
        hook.remove()
        thread, _ = started(lambda: restore(model))
        thread.join(20)
        assert not thread.is_alive()


def test_a_callback_that_waits_for_another_call_is_not_held_for_ever(monkeypatch):
    monkeypatch.setattr(call_gate, "PATIENCE", 0.3)
    model, inputs = reduce_tokens(llava(), keep=0.25), llava_inputs(ONE)
    paused, inner = Paused(), []

    class Waits(LogitsProcessor):
        def __call__(self, ids, scores):
            if not inner:
                paused()
                inner.append(pool.submit(lambda: model(**inputs).logits).result(20))
            return scores

    with ThreadPoolExecutor(1) as pool:
        outer, _ = started(lambda: logits(model, inputs, logits_processor=LogitsProcessorList([Waits()])))
        assert paused.reached.wait(20)
        changed, _ = started(lambda: restore(model))
        changed.join(0.2)
        paused.free.set()
        for thread in (outer, changed):
            thread.join(20)
            assert not thread.is_alive()
    assert len(inner) == 1
