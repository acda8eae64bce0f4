"""Where Ray's workers import from."""

from __future__ import annotations

import os
import sys

import pytest

pytest.importorskip("ray")

from ray.job_config import JobConfig

from vtc.video.batch.ray.job import DriverJob


def folders(kind: type[JobConfig], given: list[str]) -> list[str]:
    """What is sent to workers of the folders that `ray.init` has put together."""
    job = kind(_py_driver_sys_path=list(given))
    sent = job._serialize()
    return [folder for folder in given if folder.encode() in sent]


@pytest.mark.parametrize("first", [[], ["."]])
def test_the_current_folder_is_not_imported_from(tmp_path, monkeypatch, first):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*first, "/elsewhere"])
    assert folders(DriverJob, ["/script", os.getcwd()]) == ["/script"]
    assert folders(JobConfig, ["/script", os.getcwd()]) == ["/script", os.getcwd()]  # control


@pytest.mark.parametrize("empty", [True, False])
def test_but_where_the_driver_does(tmp_path, monkeypatch, empty):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", ["" if empty else os.getcwd(), "/elsewhere"])
    assert folders(DriverJob, ["/script", os.getcwd()]) == ["/script", os.getcwd()]
