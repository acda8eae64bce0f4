"""The embedded models as they are built and taught: one file a model, all that training must know of it."""

from tools.train_embedded.model_specs.base import Student
from tools.train_embedded.model_specs.internvl import TinyInternVL
from tools.train_embedded.model_specs.llava import TinyLlava
from tools.train_embedded.model_specs.qwen import TinyQwen

STUDENTS: dict[str, Student] = {student.name: student for student in (TinyLlava(), TinyQwen(), TinyInternVL())}
