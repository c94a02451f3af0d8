"""Texts said otherwise by rule: other small words, contractions, a new beginning. English only, for measurement alone.

Nothing in the audit learns from these, so they show how far its confidence carries beyond what it planted itself.
"""

from __future__ import annotations

import re

# Whole words, any case; every rule that fits is used, each at most once.
RULES = (
    (r"^what (is|are|was|were) the", r"can you tell me the"),
    (r"^what (is|are|was|were)", r"please explain what \1"),
    (r"^who (is|was|were)", r"which person \1"),
    (r"^where (is|are|was|were)", r"in which place \1"),
    (r"^when (is|was|did|do|does)", r"in which year \1"),
    (r"^how many", r"what number of"),
    (r"^how much", r"what amount of"),
    (r"^how long", r"for what time"),
    (r"^why (is|are|do|does|did)", r"for what reason \1"),
    (r"^name", r"tell me"),
    (r"\bcountry\b", "nation"),
    (r"\bmovie\b", "film"),
    (r"\bfilm\b", "picture"),
    (r"\bcity\b", "town"),
    (r"\bbig(gest)?\b", r"large\1"),
    (r"\bfamous\b", "well known"),
    (r"\bstart(s|ed)?\b", "begin"),
    (r"\bkill(s|ed)?\b", "murdered"),
    (r"\bwrote\b", "was the author of"),
    (r"\binvented\b", "came up with"),
    (r"\bdied\b", "passed away"),
    (r"\bborn\b", "given birth to"),
    (r"\bcompany\b", "firm"),
    (r"\bsays?\b", "states"),
    (r"\bsaid\b", "stated"),
    (r"\bpeople\b", "persons"),
    (r"\bmean(s)?\b", "signify"),
    (r"\bpercent\b", "per cent"),
    (r"\babout\b", "around"),
    (r"\bbuy(s)?\b", "purchase"),
    (r"\bhelp(s)?\b", "assist"),
    (r"\bget(s)?\b", "obtain"),
    (r"\bU\.?S\.?\b", "United States"),
    (r"\bn't\b", "not"),
    (r"\b's\b", "has"),
    (r"\band\b", "as well as"),
    (r"\bbut\b", "yet"),
    (r"\bfor\b", "in favour of"),
    (r"\bused\b", "employed"),
    (r"\bcalled\b", "named"),
)
FEWEST_RULES = 2  # a text to which fewer apply is not said otherwise enough to count


def paraphrased(text: str) -> str | None:
    """Return the text said otherwise, or None where too few rules apply."""
    used = 0
    for pattern, words in RULES:
        text, count = re.subn(pattern, words, text, count=1, flags=re.IGNORECASE)
        used += count
    return text if used >= FEWEST_RULES else None
