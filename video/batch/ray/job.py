"""Job configuration of a Ray driver: where its workers import from."""

from __future__ import annotations

import os
import sys

from ray.job_config import JobConfig


class DriverJob(JobConfig):
    """A job whose workers import from the current folder only where its driver does.

    Ray puts the current folder first on its workers' import path, so that a `json.py` in a folder of downloaded videos
    would be run by `vtc batch`, whose own path it is not on (CWE-427).
    """

    def _serialize(self) -> str:
        here = os.path.abspath(os.curdir)
        if not {"", here} & {entry for entry in sys.path if isinstance(entry, str)}:
            self._py_driver_sys_path = [folder for folder in self._py_driver_sys_path if folder != here]
        return super()._serialize()
