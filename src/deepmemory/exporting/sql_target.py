"""What an exported layer is called in the database, and where the documents are."""

from dataclasses import dataclass

from deepmemory.exporting.sql_names import identifier, name_problem, split_name

__all__ = ["SqlTarget"]

_FUNCTIONS = {"transform": "", "bonus": "_bonus", "search": "_search"}


@dataclass(frozen=True, slots=True)
class SqlTarget:
    """Names in the database; each is quoted, and taken as it is written.

    Attributes:
        table: the table of documents that ``deep_memory_search`` looks through, as ``table`` or ``schema.table``; None
            makes no such function.
        id: its column with the documents' ids.
        vector: its column with their vectors, of pgvector's type ``vector`` or ``halfvec``.
        schema: where the layer's tables and functions go; made where it is missing.
        name: the transform's function; the other names begin with it.
    """

    table: str | None = None
    id: str = "id"
    vector: str = "embedding"
    schema: str = "public"
    name: str = "deep_memory"

    @property
    def tables(self) -> dict[str, str]:
        """The layer's tables, by what they hold."""
        return {part: identifier(self.schema, f"{self.name}_{part}") for part in ("matrix", "keys", "pairs", "labels")}

    @property
    def functions(self) -> dict[str, str]:
        """Its functions, by what they do."""
        return {part: identifier(self.schema, f"{self.name}{ending}") for part, ending in _FUNCTIONS.items()}

    @property
    def function_names(self) -> list[str]:
        """The functions' names without quotes and schema."""
        return [f"{self.name}{ending}" for ending in _FUNCTIONS.values()]

    @property
    def documents(self) -> tuple[str, str] | None:
        """Schema and name of the documents' table."""
        return None if self.table is None else split_name(self.table, "public")

    def problems(self) -> list[str]:
        """Everything that is wrong with the names, a sentence each."""
        found = [
            name_problem(self.schema, "the schema"),
            name_problem(self.name, "the function's name") or name_problem(f"{self.name}_search", "the longest name"),
        ]
        if self.table is not None:
            found += [name_problem(self.id, "the column of ids"), name_problem(self.vector, "the column of vectors")]
            if self.documents is None:
                found.append(f'the table should be named as table, schema.table or "in.quotes", and is {self.table!r}')
            else:
                found += [name_problem(part, "the table") for part in self.documents]
        return [problem for problem in found if problem is not None]
