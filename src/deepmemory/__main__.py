"""``python -m deepmemory`` is the command ``deepmemory``."""

from deepmemory.cli import main

if __name__ == "__main__":
    main()
