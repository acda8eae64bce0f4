"""Stages: one method a file, pure tensor code.

One line here makes a class a stage of recipe files, a public name, and a recipe where it drops something by itself.
"""

from .allocate.density import Density as Density
from .allocate.even import Even as Even
from .allocate.joint import Joint as Joint
from .allocate.thumbnail import Thumbnail as Thumbnail
from .base import STAGES as STAGES
from .base import Allocator as Allocator
from .base import FrameSelector as FrameSelector
from .base import InputStage as InputStage
from .base import Merger as Merger
from .base import Resizer as Resizer
from .base import Selector as Selector
from .base import Stage as Stage
from .base import add_stages as _add_stages
from .base import concrete as _concrete
from .decoder.base import DecoderStage as DecoderStage
from .decoder.fastv import FastV as FastV
from .decoder.feather import Feather as Feather
from .decoder.layerwise import Layerwise as Layerwise
from .decoder.llavolta import LLaVolta as LLaVolta
from .decoder.pyramiddrop import PyramidDrop as PyramidDrop
from .decoder.sparsevlm import SparseVLM as SparseVLM
from .decoder.todre import ToDRE as ToDRE
from .decoder.vtw import VTW as VTW
from .encoder.base import EncoderStage as EncoderStage
from .encoder.diffrate import DiffRate as DiffRate
from .encoder.tome import ToMe as ToMe
from .input.resize import Resize as Resize
from .merge.area import Area as Area
from .merge.mean import Mean as Mean
from .select.cls import Cls as Cls
from .select.cls_sampling import ClsSampling as ClsSampling
from .select.grid import Grid as Grid
from .select.kcenter import KCenter as KCenter
from .select.local_global import LocalGlobal as LocalGlobal
from .select.maxsum import MaxSum as MaxSum
from .select.random import Random as Random
from .select.stride import Stride as Stride

BUILT_IN = _concrete(globals())
"""Every stage of this package; those of videos are in `vtc.video.stages`."""
_add_stages(*BUILT_IN)

# Computed, so that a new stage is one line here; type checkers read the `as` of the imports instead.
__all__ = [name for name, value in globals().items() if isinstance(value, type) and issubclass(value, Stage)]
__all__ += ["STAGES"]
