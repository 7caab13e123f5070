"""The whole of Deep Memory on real input: Python's own documentation, crawled, stored, learned from and searched."""

from deepmemory.demo.questions import Question, load_questions
from deepmemory.demo.showcase import Showcase
from deepmemory.demo.walk import Demo, Training

__all__ = ["Demo", "Question", "Showcase", "Training", "load_questions"]
