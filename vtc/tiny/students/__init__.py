"""The embedded models as they are built and taught: one file a model, all that training must know of it."""

from vtc.tiny.students.base import Student
from vtc.tiny.students.internvl import TinyInternVL
from vtc.tiny.students.llava import TinyLlava
from vtc.tiny.students.qwen import TinyQwen

STUDENTS: dict[str, Student] = {student.name: student for student in (TinyLlava(), TinyQwen(), TinyInternVL())}
