"""How many threads a sum is split among: with the same numbers it is the same sum in every process."""

import sys
from dataclasses import dataclass

from threadpoolctl import threadpool_info, threadpool_limits

__all__ = ["ONE_THREAD", "Threads"]


@dataclass(frozen=True, slots=True)
class Threads:
    """Numbers of threads of the libraries that split sums among them.

    Attributes:
        blas: of NumPy's and SciPy's products.
        openmp: of libraries that use OpenMP.
        torch: of torch.
    """

    blas: int = 1
    openmp: int = 1
    torch: int = 1

    @classmethod
    def here(cls) -> "Threads":
        """What this process uses, of the libraries that it has loaded."""
        most = {"blas": 1, "openmp": 1}
        for library in threadpool_info():
            kind = library["user_api"]
            most[kind] = max(most.get(kind, 1), library["num_threads"])
        torch = sys.modules.get("torch")
        return cls(most["blas"], most["openmp"], 1 if torch is None else torch.get_num_threads())

    @property
    def most(self) -> int:
        """The largest of the numbers: so many cores keep them busy."""
        return max(self.blas, self.openmp, self.torch)

    def apply(self) -> None:
        """Let this process use so many from now on."""
        threadpool_limits({"blas": self.blas, "openmp": self.openmp})
        torch = sys.modules.get("torch")
        if torch is not None:
            torch.set_num_threads(self.torch)


ONE_THREAD = Threads()
