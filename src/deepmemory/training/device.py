"""Where the products of a training are done: NumPy on the CPU, or PyTorch on any device that it knows, such as a GPU.

The mathematics is written once, in operators and functions that both libraries have by the same name.
"""

from dataclasses import dataclass
from typing import Any, TypeAlias, cast

import numpy as np
from numpy.typing import NDArray

from deepmemory.errors import InputError, MissingExtraError

__all__ = ["CPU", "Device"]

Matrix: TypeAlias = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Device:
    """A place for arrays.

    Attributes:
        name: of the PyTorch device; None for NumPy.
        xp: the module whose functions its arrays are for.
    """

    name: str | None
    xp: Any

    @classmethod
    def named(cls, name: str | None) -> "Device":
        """The device of a name such as ``"cuda"``, ``"mps"`` or ``"cpu"`` (of PyTorch); None is NumPy.

        Raises:
            InputError: PyTorch doesn't know it, or it can't be used here.
            MissingExtraError: PyTorch is not installed.
        """
        if name is None:
            return CPU
        try:
            import torch
        except ImportError as error:
            raise MissingExtraError(f"training on the device {name!r}", "gpu") from error
        try:
            torch.zeros(1, device=name)
        except (RuntimeError, AssertionError, NotImplementedError, TypeError) as error:
            reason = (str(error).splitlines() or ["no reason given"])[0].rstrip(".")
            raise InputError(f"device is one that PyTorch can use here; {name!r} is not: {reason}") from error
        return cls(name, torch)

    def put(self, array: Matrix) -> Matrix:
        """The array on this device, answering to the same operators."""
        if self.name is None:
            return array
        return cast("Matrix", self.xp.asarray(np.ascontiguousarray(array)).to(self.name))

    def get(self, array: Matrix) -> Matrix:
        """An array of this device as one of NumPy's."""
        return array if self.name is None else cast("Any", array).cpu().numpy()


CPU = Device(None, np)
"""NumPy: the same seed gives the same bytes."""
