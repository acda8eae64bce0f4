"""What an encoder made is held by content and by name, and the model is the stock one again behind it."""

from __future__ import annotations

import pytest
import torch

from vtc.app.encodings import Encodings, digest


class Home:
    """Encodes by doubling, and counts how often."""

    def __init__(self):
        self.calls = 0

    @property
    def base_model(self):
        return self

    def get_image_features(self, pixels, grid=None, return_dict=True):
        self.calls += 1
        return pixels * 2


def test_the_same_pixels_are_encoded_once_under_each_name():
    home, held = Home(), Encodings()
    pixels = torch.rand(2, 3)
    for name in ("all", "all", "kcenter"):
        with held.at_work(home, name):
            assert torch.equal(home.get_image_features(pixels.clone(), return_dict=True), pixels * 2)
    assert home.calls == 2
    assert (held.encoded, held.reused) == (2, 1)


def test_other_pixels_grids_or_types_are_encoded_again():
    home, held = Home(), Encodings()
    pixels = torch.rand(2, 3)
    with held.at_work(home, "all"):
        for given in ((pixels,), (pixels.T,), (pixels.double(),), (pixels, torch.ones(1)), (-pixels,)):
            home.get_image_features(*given)
    assert home.calls == 5


def test_the_method_is_the_stock_one_behind_the_block_even_after_an_error():
    home, held = Home(), Encodings()
    with held.at_work(home, "all"):
        assert "get_image_features" in home.__dict__
        with pytest.raises(TypeError):
            home.get_image_features()
    assert "get_image_features" not in home.__dict__
    with pytest.raises(ZeroDivisionError), held.at_work(home, "all"):
        1 / 0  # noqa: B018
    assert "get_image_features" not in home.__dict__
    own = home.get_image_features = lambda pixels: pixels
    with held.at_work(home, "all"):
        assert home.get_image_features is not own
    assert home.get_image_features is own


def test_the_oldest_leave_first():
    home, held = Home(), Encodings(size=2)
    some = [torch.full((1,), float(i)) for i in range(3)]
    with held.at_work(home, "all"):
        for pixels in (*some, some[2], some[0]):
            home.get_image_features(pixels)
    assert home.calls == 4
    with pytest.raises(ValueError, match="size=0"):
        Encodings(size=0)


def test_a_digest_tells_arguments_apart():
    one = torch.ones(2)
    made = [
        digest("a", [one], {}),
        digest("b", [one], {}),
        digest("a", [one, one], {}),
        digest("a", [], {"x": one}),
        digest("a", [[one], []], {}),
        digest("a", [torch.ones(0)], {}),
        digest("a", [torch.ones(2, dtype=torch.bfloat16)], {}),
    ]
    assert len(set(made)) == len(made)
    assert made[0] == digest("a", [torch.ones(2)], {})
