"""`fit()`: arrays in, layer out; the selection of its few numbers, and the gate.

Read top to bottom: `fit` (the whole), `objective` (what the linear layer minimises), `folds`, `scoring` and
`crossvalidation` (how candidates are judged), `selection` (which one wins, and what may be claimed).
"""

from deepmemory.training.fit import FitResult, fit
from deepmemory.training.report import FitReport
from deepmemory.training.settings import Linear, Settings

__all__ = ["FitReport", "FitResult", "Linear", "Settings", "fit"]
