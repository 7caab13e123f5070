"""Words of a text and what they say about it: which of them tell a document from the others."""

import math
import re
from collections import Counter
from collections.abc import Iterable, Sequence

__all__ = ["STOPWORDS", "Corpus", "is_english", "key", "words_of"]

_WORD = re.compile(r"[^\W_]+(?:[._'\u2019/-]?[^\W_]+|_+[^\W_]+)*")
_SHORTEST_STEM = 4
_MOST_STATISTICS = 200_000  # distinct terms that are counted exactly; a term beyond is as rare as any

_SMALL_WORDS = """
a about above after again all also an and any are as at be because been before being below between both but by
can could did do does doing down during each either else etc few for from further get gets given had has have having
he her here hers him his how however i if in into is it its itself just let like made make many may me might more
most must my no nor not now of off on once one only onto or other our ours out over own per same see shall she
should since so some such than that the their theirs them then there these they this those through thus to too
under until up upon us use used using very via was we were what when where whether which while who whom whose why
will with within without would you your yours
"""

STOPWORDS = frozenset(_SMALL_WORDS.split())
"""Words that say nothing of a text's matter."""


def words_of(text: str) -> list[str]:
    """The words of a text as they are written; code names stay whole."""
    return _WORD.findall(text)


def key(word: str) -> str:
    """What makes two spellings the same word: case and the plural do not count."""
    folded = word.casefold()
    if len(folded) > _SHORTEST_STEM and folded.endswith("s") and not folded.endswith("ss"):
        return folded[:-1]
    return folded


def is_english(text: str) -> bool:
    """Whether enough of its words are the small words of English, so that an English question suits it."""
    words = [word.casefold() for word in words_of(text)[:400]]
    return len(words) > 3 and sum(word in STOPWORDS for word in words) >= 0.12 * len(words)


class Corpus:
    """How many documents use each word.

    Attributes:
        n_documents: that were counted.
    """

    def __init__(self, texts: Iterable[str]) -> None:
        """Count; texts are read once and not kept."""
        self.n_documents = 0
        self._using: Counter[str] = Counter()
        for text in texts:
            self.n_documents += 1
            terms = {key(word) for word in words_of(text)}
            if len(self._using) < _MOST_STATISTICS:
                self._using.update(terms)
            else:
                self._using.update(terms & self._using.keys())

    def weight(self, word: str) -> float:
        """How well a word tells documents apart: 0 for small words, numbers and what nearly every document has.

        The inverse document frequency ``ln((n + 1) / (df + 0.5))`` (Spärck Jones, 1972).
        """
        term = key(word)
        if term in STOPWORDS or len(term) < 2 or not any(map(str.isalpha, term)):
            return 0.0
        return max(0.0, math.log((self.n_documents + 1) / (self._using[term] + 0.5)))

    def key_words(self, text: str, n: int, *, without: Iterable[str] = ()) -> list[str]:
        """The words that say most about a text, by tf-idf, in the order in which the text has them.

        Args:
            text: a passage.
            n: how many, at most.
            without: words that are named already.
        """
        skipped = {key(word) for word in without}
        counts: Counter[str] = Counter()
        first: dict[str, tuple[int, str]] = {}
        for place, word in enumerate(words_of(text)):
            term = key(word)
            if term not in skipped:
                counts[term] += 1
                first.setdefault(term, (place, word))
        scored = {term: (1 + math.log(count)) * self.weight(first[term][1]) for term, count in counts.items()}
        best = sorted((term for term in scored if scored[term] > 0), key=lambda term: (-scored[term], first[term][0]))
        return [first[term][1] for term in sorted(best[:n], key=lambda term: first[term][0])]

    def told_apart(self, words: Sequence[str]) -> float:
        """How specific a query is: the weights of its words over the root of their number; 0 for a single word."""
        weights = [weight for word in dict.fromkeys(map(key, words)) if (weight := self.weight(word)) > 0]
        return sum(weights) / math.sqrt(len(weights)) if len(weights) > 1 else 0.0
