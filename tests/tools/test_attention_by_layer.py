"""Where the last token looks: the arithmetic on attention made by hand, the plate's patches, and the printed table."""

from __future__ import annotations

from itertools import islice

import pytest
import torch

from tools.attention_by_layer import HEAD, main, measures, plate_of, scenes_of_one_plate


def test_shares_of_one_layer():
    attention = torch.tensor([0.2, 0.1, 0.3, 0.05, 0.05, 0.0, 0.3])
    visual = torch.tensor([False, True, True, True, True, False, False])
    plate = torch.tensor([True, False, False, True])
    first, seen, other, largest, found = measures(attention, visual, plate)
    assert (first, seen, other) == pytest.approx((0.2, 0.5, 0.3))
    assert largest == pytest.approx(0.6)
    assert found == 0.0, "the best quarter is the second visual token, which does not show the plate"
    assert measures(attention, visual, torch.tensor([False, True, False, False]))[-1] == 1.0


def test_the_patches_of_a_plate_lie_where_it_is_drawn():
    for scene in islice(scenes_of_one_plate(), 5):
        (plate,) = scene.plates
        shown = plate_of(scene, 16).reshape(16, 16)
        assert 1 < shown.sum() < 200
        assert shown[int(plate.y * 16), int(plate.x * 16)]


def test_a_row_for_each_layer(capsys):
    main(["tiny-llava", "--n", "2"])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "tiny-llava, 2 scenes"
    assert lines[1] == f"| {' | '.join(HEAD)} |"
    assert [line.split(" | ")[0] for line in lines[3:]] == [f"| {layer}" for layer in range(6)]
    with pytest.raises(SystemExit):
        main(["tiny-llava", "--n", "0"])
