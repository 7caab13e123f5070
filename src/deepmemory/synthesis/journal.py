"""Paid replies on disk, one line each, so that a run that was killed pays for nothing twice."""

import contextlib
import hashlib
import json
import os
import threading
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from deepmemory.data import Document
from deepmemory.errors import InputError, StorageError
from deepmemory.synthesis.llm import Answer

__all__ = ["Journal", "reply_key"]


def reply_key(document: Document, settings: Mapping[str, Any]) -> str:
    """What a reply is kept under: the document's text, and everything that shapes the answer."""
    title = document.metadata.get("title")
    content = json.dumps([title if isinstance(title, str) else None, document.text, settings], sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()


class Journal:
    """The replies of one or more runs, appended and flushed to the disk the moment they come; threads share one.

    Without a path replies are kept in memory only. A last line that a kill cut short is passed over.
    """

    def __init__(self, path: str | os.PathLike[str] | None) -> None:
        """Read what is there, and keep others from paying for the same at the same time.

        Raises:
            InputError: another run writes to this journal, or the file is something else.
            StorageError: the disk refused.
        """
        self._replies: dict[str, list[Answer]] = defaultdict(list)
        self._lock = threading.Lock()
        self._file: Any = None
        self._guard: Any = None
        if path is not None:
            self._open(Path(path))

    def replies(self, key: str) -> tuple[Answer, ...]:
        """What was paid for already, in order."""
        with self._lock:
            return tuple(self._replies.get(key, ()))

    def keep(self, key: str, answer: Answer) -> None:
        """Write a reply down; on return it is on the disk.

        Raises:
            StorageError: the disk refused.
        """
        record = {
            "key": key,
            "text": answer.text,
            "finish": answer.finish,
            "tokens_in": answer.tokens_in,
            "tokens_out": answer.tokens_out,
        }
        line = json.dumps(record) + "\n"
        with self._lock:
            self._replies[key].append(answer)
            if self._file is not None:
                try:
                    left = memoryview(line.encode())
                    while left:  # a disk that is nearly full takes a part
                        left = left[self._file.write(left) :]
                    os.fsync(self._file.fileno())
                except OSError as error:
                    raise StorageError(f"{self._file.name} can't be written: {error.strerror or error}") from error

    def close(self) -> None:
        """Let go of the file."""
        with self._lock:
            if self._file is not None:
                self._file.close()
                self._file = None
            if self._guard is not None:
                self._guard.release()
                self._guard = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _open(self, path: Path) -> None:
        import filelock

        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            guard = filelock.FileLock(path.with_name(f".{path.name}.lock"), timeout=0)
            guard.acquire()
            self._guard = guard
            content = path.read_bytes() if path.exists() else b""
            self._read(path, content)
            self._file = path.open("ab", buffering=0)
            if content and not content.endswith(b"\n"):
                self._file.write(b"\n")
        except filelock.Timeout as error:
            raise InputError(f"another run is writing to {path}; wait for it, or give another file") from error
        except OSError as error:
            self.close()
            raise StorageError(f"{path} can't be used: {error.strerror or error}") from error
        except InputError:
            self.close()
            raise

    def _read(self, path: Path, content: bytes) -> None:
        lines = [line for line in content.split(b"\n") if line.strip()]
        for number, line in enumerate(lines, start=1):
            with contextlib.suppress(ValueError, KeyError, TypeError):
                record = json.loads(line)
                answer = Answer(record["text"], record["finish"], record["tokens_in"], record["tokens_out"])
                self._replies[record["key"]].append(answer)
                continue
            if number == 1 and len(lines) > 1:
                raise InputError(f"{path} holds no replies of a model: give another file for the journal")
