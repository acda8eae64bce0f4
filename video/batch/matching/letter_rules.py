"""The rules by which a letter is read out of an answer: data, in the order in which they are tried.

What a rule finds states a letter (STATES), states one weakly, which counts where nothing is stated (HINTS), says that a
letter is not meant (DENIES), or lists it beside others (LISTS). `statements.letter_statement` weighs them against each
other.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

STATES, HINTS, DENIES, LISTS = "states", "hints", "denies", "lists"

_OPEN, _CLOSE = r"[\s(\[{<$\"'\u201c\u2018\uff08]*", r"[)\]}>$\"'\u201d\u2019\uff09]*"
_ENDS = r"(?=\s*(?:[.,;:!?)\]]|$|\n|[\u3002\uff0c\uff01\uff1b]|-|\u2013|\u2014))"
_CAUSE = r"(?=\s*,?\s+(?:because|since|as|due|for)\b)"
# A capital A in front of a word may be an article, and an I a pronoun: neither is a letter then.
_ARTICLE = r"(?!(?<=[AI])\s+(?!(?i:because|since|as|is|was|not|and|or|but|due|for|with)\b)\w)"
CAPITAL = (
    rf"{_OPEN}(?:(?i:the\s+)?(?i:option|choice|letter)\s+)?{_OPEN}"
    rf"([A-Z])(?![A-Za-z0-9_+#]|['\u2019]\w|[.][A-Za-z]){_CLOSE}{_ARTICLE}"
)
_LEADS = ("that", "so", "therefore", "thus", "hence", "think", "believe", "say", "and", "but", "only", "then")
_BEGINS = (
    r"(?:\A|(?<=\n)|(?<=[.,;:!?]\s)|(?=\b(?i:option|choice)\s)|"
    + "|".join(rf"(?<=\b(?i:{word})\s)" for word in _LEADS)
    + ")"
)
"""In front of a letter that begins a clause: `Team B is correct` is about a team."""
_NOUN = (
    r"(?:\b(?:answer|ans\.?|option|choice|letter|solution|response|(?:correct|right)(?=\s*:)|antwort|r[ée]ponse|respuesta|risposta|resposta)|\u043e\u0442\u0432\u0435\u0442|"
    r"\u7b54\u6848|\u9009\u9879|\u7b54\u3048|\u56de\u7b54|\uc815\ub2f5|\ub2f5)"
)
_IS = (
    r"(?:\s*[:=\uff1a]|\s+[-\u2013\u2014](?=\s)|['\u2019]s\b|\s*(?:\u9009|\u9078|\u662f|\u4e3a|\u70ba|\u306f|\uc740|\ub294)|\s+(?:is|was|are|to\s+be|would\s+have\s+to\s+be|ist|est|es|\u00e8|\u00e9|(?:would|should|must|has\s+to|will|"
    r"seems\s+to|appears\s+to)\s+be|seems|appears|lautet)\b)\s*[:\uff1a]?(?:\s*(?:most\s+likely|likely|probably|therefore|thus|"
    r"clearly|definitely|simply|indeed|then|now))?"
)


@dataclass(frozen=True)
class Rule:
    """One way in which models say a letter.

    Attributes:
        name: unique, for tests and messages.
        kind: STATES, HINTS, DENIES or LISTS.
        pattern: its first group is the letter.
        why: what it is there for.
    """

    name: str
    kind: str
    pattern: re.Pattern[str]
    why: str


def _rule(name: str, kind: str, pattern: str, why: str) -> Rule:
    return Rule(name, kind, re.compile(pattern, re.M), why)


RULES = (
    _rule(
        "boxed",
        STATES,
        r"\\(?:boxed|fbox)\s*\{\W*(?:(?i:option|choice)\s+)?\W*([A-Za-z])\W*\}",
        "models trained on mathematics box the answer",
    ),
    _rule(
        "line",
        STATES,
        rf"^{_OPEN}(?:(?i:the\s+)?(?i:option|choice|letter)\s+)?{_OPEN}([A-Z]){_CLOSE}[.,;!]?{_CLOSE}[ \t]*$",
        "a line that is a letter and nothing else, before or behind an explanation",
    ),
    _rule(
        "answer is",
        STATES,
        rf"(?i:{_NOUN})(?:\s+(?i:to\s+(?:the|this)\s+question|choice|option|here|correcta|correcte|corretta|richtige?))?(?i:{_IS})(?:\s+(?i:the))?{CAPITAL}",
        "`The answer is B`, `Final Answer: B`, `The correct Option is C`, and the same word of other languages",
    ),
    _rule(
        "answer is, small",
        STATES,
        rf"(?i:{_NOUN}{_IS})(?:\s*[(\[]\s*([a-z])\s*[)\]])",
        "a small letter in parentheses is no word",
    ),
    _rule(
        "answer is, small at the end",
        STATES,
        rf"(?i:{_NOUN}{_IS})\s*(?:(?i:option)\s+)?([a-z])\s*[.!)]?\s*$",
        "a small letter that nothing follows is no word either",
    ),
    _rule(
        "answer letter",
        STATES,
        rf"(?i:\b(?:answer|ans\.?|antwort|r[ée]ponse)|(?:\u9009\u62e9|\u9009\u9879|\u9009|\u6545\u9009|\u9078))\s*{CAPITAL}{_ENDS}",
        "`Answer B.`, `Answer (B)`, and the verb that Chinese models use",
    ),
    _rule(
        "is right",
        STATES,
        rf"{_BEGINS}{CAPITAL}\s+(?:(?i:best\s+(?:describes|matches|answers|fits))|(?i:is|seems|must\s+be|would\s+be|should\s+be|appears\s+to\s+be)\s+(?:(?i:clearly|definitely|indeed|therefore|thus|most\s+likely|likely|probably)\s+)?(?:(?i:the|my)\s+)?"
        r"(?:(?i:single|only|most)\s+)?(?i:correct|right|best|accurate|true|answer)\b)(?!\s+(?i:only\s+)?(?i:if|were))",
        "`B is correct`, `Option B is the best answer`",
    ),
    _rule(
        "chosen",
        STATES,
        rf"(?i:\b(?:choose|chose|pick|picked|select|selected|go\s+(?:with|for)|going\s+with|opt\s+for|settle\s+on|say|vote\s+for|answer\s+with))\b:?{CAPITAL}(?:{_ENDS}|{_CAUSE})",
        "`I choose B`, `I'd go with B.`",
    ),
    _rule(
        "it is",
        STATES,
        rf"(?i:\b(?:it|this|that))(?i:['\u2019]s|\s+(?:is|must\s+be|should\s+be|would\s+be|has\s+to\s+be))(?:\s+(?i:probably|likely|most\s+likely|definitely|clearly))?{CAPITAL}(?:{_ENDS}|{_CAUSE})",
        "`It's B`, `That must be option B.`",
    ),
    _rule(
        "so",
        STATES,
        rf"(?i:\b(?:so|therefore|thus|hence|consequently|in\s+conclusion))\s*[,:]?\s+(?:(?i:it)['\u2019]?(?:\s+is|s)\s+)?{CAPITAL}{_ENDS}",
        "`Therefore, B.`",
    ),
    _rule(
        "not one but another",
        STATES,
        rf"(?i:\bnot)\s+{CAPITAL.replace('([A-Z])', '[A-Z]')}\s*,?\s*(?i:but|rather)(?:\s+(?i:rather))?\s+{CAPITAL}",
        "`not A but B`: the second is stated",
    ),
    _rule(
        "verdict",
        STATES,
        rf"(?:^|(?<=[.!?;,]\s)|(?<=\n))[-\u2022\s]*{CAPITAL}\s*[).:,\u2013\u2014-]+\s*(?:[^\n.:?!]{{0,80}}[:\u2013\u2014(-]\s*)?(?i:(?:yes|correct|true|right|this\s+is\s+(?:correct|right|true))\b|[\u2713\u2714\u2705])",
        "options judged one by one: `A) No. B) Yes.`",
    ),
    _rule(
        "verdict against",
        DENIES,
        rf"(?:^|(?<=[.!?;,]\s)|(?<=\n))[-\u2022\s]*{CAPITAL}\s*[).:,\u2013\u2014-]+\s*(?:[^\n.:?!]{{0,80}}[:\u2013\u2014(-]\s*)?(?i:(?:no|not|incorrect|false|wrong|(?:[^\n.:?!]{{0,80}}\s)?is\s+(?:not|wrong|incorrect|false))\b|[\u2717\u2718\u274c])",
        "the same, against: `A: not in the video.`",
    ),
    _rule(
        "is wrong",
        DENIES,
        rf"{_BEGINS}{CAPITAL}\.?\s+(?i:(?:is|was|seems|would\s+be|must\s+be|can)\s*(?:clearly\s+|definitely\s+|also\s+)?(?:not|wrong|incorrect|false|excluded|eliminated|ruled\s+out)\b|isn['\u2019]t|can['\u2019]t|cannot|does\s+not|doesn['\u2019]t)",
        "`A. is wrong.`, `Option A is not seen.`",
    ),
    _rule(
        "ruled out",
        DENIES,
        rf"(?i:\b(?:not|rule\s+out|ruled\s+out|eliminate|eliminated|exclude|rather\s+than|instead\s+of|except|unlike))\s*{CAPITAL}",
        "`not A`, `I rule out A`",
    ),
    _rule(
        "first",
        HINTS,
        rf"\A{_OPEN}(?:(?i:option|choice|answer|letter)\s*:?\s+)?{_OPEN}([A-Za-z])(?:[)\]}}\"'>]*\s*[).:\],]|\s*\n|\s+[-\u2013\u2014]|[)\]]\s|\s+(?i:because|since)\b)(?!\s*[A-Z]\.)",
        "`B. blue`, `(B) blue`, `B - blue`: a letter in front, as options have it",
    ),
    _rule(
        "another line's first",
        HINTS,
        r"(?:(?<=\n)|(?<=[.!?]\s))[-\u2022 \t]*[(\[]?([A-Z])[)\]]?[).:](?=\s)",
        "`The car is blue.\\nB. blue`; where several lines begin so, the options are listed",
    ),
    _rule(
        "listed",
        LISTS,
        r"(?<=\s)[(\[]?([A-Z])[)\]]?[).:](?=\s)",
        "`A: red; B: green`: the options, within a line",
    ),
    _rule(
        "in parentheses",
        HINTS,
        r"[(\[]\s*(?:(?i:option)\s+)?([A-Z])\s*[)\]]",
        "`It is the blue one (B).`",
    ),
    _rule(
        "option at the end",
        HINTS,
        rf"(?i:\b(?:option|choice))\s+{_OPEN}([A-Z]){_CLOSE}[.!]?\s*\Z",
        "`Hence option B`",
    ),
)
"""In the order in which they are tried; see `statements.letter_statement` for what several findings come to."""

STATED_AT_END = re.compile(rf"(?:(?i:{_NOUN})(?i:{_IS})|\\\\boxed\s*\{{)\s*([^\n}}]+?)[\s.}}]*$", re.M)
"""The text that an answer states, up to the end of its line."""
MORE = re.compile(
    rf"\s*(?:,|/|&|\+|\bor\b|\band\b|\boder\b|\bund\b|\bou\b|\bet\b|\u548c|\u6216|\u3001)+\s*(?:(?:or|and|maybe|perhaps|possibly|also|even)\s+)*"
    rf"(?:(?:the\s+)?(?:option|choice)\s+)?{_OPEN}((?-i:[A-Z]))(?![\w'\u2019])(?!\s*[).:]?\s+(?:is|was|are|seems|would|can)\b)",
    re.I,
)
"""Behind a letter: another one beside it, as in `A or B`: neither is meant alone."""
BEFORE = re.compile(r"\b([A-Z])[)]?\s*(?:,|/|&|\bor\b|\band\b)\s*(?:(?i:option|choice)\s+)?[(\[]?\Z")
"""In front of one: the same, as in `A or B is right`."""
AGAINST = re.compile(
    r"\b(?:not|no|never|neither|nor|cannot|wrong|incorrect|false|without|unlikely)\b|n['\u2019]t\b|\bnicht\b|\u4e0d\u662f",
    re.I,
)
"""In the same clause before a statement: it says the contrary."""
OPENLY = re.compile(
    r"\b(?:if|whether|unless|suppose|supposing|assuming|assume|either|could|might|may|maybe|perhaps|possibly|initially|"
    r"at\s+first|first\s+thought|originally)\b",
    re.I,
)
"""In the same clause before a statement: nothing is stated yet."""
CLAUSE = re.compile(
    r"\n|[.,;:!?]\s|[\u3002\uff0c\uff1b\u2014]|\b(?:so|therefore|thus|hence|because|but|and|then)\b", re.I
)
"""Where a clause ends."""
CORRECTS = re.compile(
    r"\b(?:actually|wait|correction|rather|sorry|apolog\w+|instead|(?:on\s+)?second\s+thoughts?|reconsider\w*|scratch\s+that|"
    r"i\s+mean|let\s+me\s+re\w+|re-?examin\w+|upon\s+closer|mistake|in\s+the\s+end|hmm+)\b|(?:^|[.!?\n]\s*)no[,.]",
    re.I,
)
"""Between two statements: the second one corrects the first."""
FINAL = re.compile(r"\b(?:final(?:ly)?|last|letzt\w+|finale?|definitiv\w*)\W+(?:\w+\W+){0,2}\Z|\u6700\u7ec8\W*\Z", re.I)
"""Right before a statement: it is the last one, whatever was stated before."""
