"""Every key under which a screen keeps something, in one place. What belongs in the link is in ``address.py``."""

from __future__ import annotations

# the frame
PAGE = "page"
TRY_AGAIN = "try-again"
OPENING_PROGRESS = "opening-progress"
LINK_CHANGE = "link-change"

# widgets of the attribution screen
SCREEN = "screen"  # fragment: the page's own part of the screen
PICK_SOURCE = "pick-source"
PICK_SHOW = "pick-show"
PICK_CLASS = "pick-class"
PICK_ID = "pick-id"
PICK_PAGE = "pick-page"
PICK_GALLERY = "pick-gallery"
PICK_UPLOAD = "pick-upload"
PICK_TEXT = "pick-text"
PICK_EXPLAIN = "pick-explain"
PICK_FOR_COMPARISON = "pick-for-comparison"  # session: the next picked row becomes the second query
UPLOAD_FAULT = "upload-fault"  # session: why the last upload was refused
QUERY_CARD = "query-card"
OPENED_ROW = "opened-row"
ROW_PICTURE = "row-picture"
ROW_TEXT = "row-text"
ROW_LABELS = "row-labels"
TARGET = "ask-about"
TARGET_CLASS = "ask-about-class"
METHOD = "scored-by"
BOARD = "board"
HISTOGRAM = "histogram"
IN_RANGE = "in-range"
SHOW_REFINED = "show-refined"
SHOW_QUICK = "show-quick"
REFINING = "refining"  # session: what this session refines, or refined last
CONFIRMED = "confirmed"  # session: questions to work on although they will not fit
START_ANYWAY = "start-anyway"
LEFT_BEHIND = "left-behind"  # session: refinings that were stopped because the person went to another query
REFINING_BAR = "refining-bar"  # fragment
REFINING_PROGRESS = "refining-progress"
SETTLING = "settling"
STOP_REFINING = "stop-refining"
COMPARE = "compare"
STOP_COMPARING = "stop-comparing"
SWAP = "swap"

# widgets of the overview
CONFUSIONS = "confusions"
NEXT_STEP = "next-step"
CLASS_TABLE = "class-table"
LIGHTS = "lights"

# widgets of the verify screen
VERIFY_PART = "verify-part"
CONTROLS = "controls"
CANARIES = "canaries"
CANARY_SCOPE = "canary-scope"
START_CANARIES = "start-canaries"
REMOVAL_SCOPE = "removal-scope"
REMOVAL_K = "removal-k"
START_REMOVAL = "start-removal"
OTHER_QUERY = "other-query"
REMOVED_ROWS = "removed-rows"
HYPOTHESIS_KIND = "hypothesis-kind"
HYPOTHESIS_QUERY = "hypothesis-query"
HYPOTHESIS_CHART = "hypothesis-chart"
HYPOTHESIS_ESTIMATES = "hypothesis-estimates"
START_HYPOTHESIS = "start-hypothesis"
START_LDS = "start-lds"
CHECK_ANSWER = "check-answer"  # on the attribution screen


def of_run(key: str, run_id: str) -> str:
    """Return the key of a widget whose state means something for one answer only."""
    return f"{key}-{run_id}"


# long work
WAITING = "waiting"
COST = "cost"
STOP_WORK = "stop-work"
RETRY_WORK = "retry-work"
WORK = "work"  # fragment: the panel
JOBS = "jobs"
OPENED_RESULT = "opened-result"  # session: the turn of the result opened last


def side(key: str, name: str) -> str:
    """Return the key of a widget that a comparison shows twice, once for each side."""
    return f"{key}-{name}"


# the review
REVIEWER_SAID = "reviewer-said"  # session: the name entered on this visit
REVIEWER_NAME = "reviewer-name"
BLIND = "review-blind"
BLIND_KEPT = "review-blind-kept"  # session
DECK = "review-deck"
RECEIPT = "review-receipt"
REVIEW_TURN = "review-turn"  # session: rises when the queue is to be made anew
REVIEW_VERSION = "review-version"  # session
REVIEW_QUEUE = "review-queue"  # session
REVIEW_WINDOW = "review-window"  # session
REVIEW_PLACE = "review-place"  # session: the place in the queue that the deck asked for
REVIEW_HEARD = "review-heard"  # session: what became of the deck's last log
REVIEW_PANEL = "review-panel"  # fragment
REVIEW_SHOW = "review-show"
REVIEW_LABEL = "review-label"
REVIEW_SUGGESTED = "review-suggested"
REVIEW_BY = "review-by"
REVIEW_WHOLE = "review-whole"
REVIEW_CLEAR = "review-clear"
SUSPICION = "suspicion"
SUSPECT_PAIRS = "suspect-pairs"
FIND_SUSPECTS = "find-suspects"
FIND_MORE = "find-more"
BULK_WHICH = "bulk-which"
BULK_COUNT = "bulk-count"
BULK_ACTION = "bulk-action"
BULK_ASK = "bulk-ask"
BULK_DO = "bulk-do"
REVIEW_MORE = "review-more"
SETTLE = "settle"
EFFECT_PART = "effect-part"
EFFECT_TOP = "effect-top"
EFFECT_START = "effect-start"
EXPORT_FORMAT = "export-format"
EXPORT_REVIEWER = "export-reviewer"
EXPORT_TARGET = "export-target"
EXPORT_DO = "export-do"
EXPORT_LOAD = "export-load"


# widgets of the text tracing screen
TRACE_FORM = "trace-form"
TRACE_PROMPT = "trace-prompt"
TRACE_COMPLETION = "trace-completion"
TRACE_SUGGESTION = "trace-suggestion"
TRACE_TOKENS = "trace-tokens"
TRACE_OTHER = "trace-other"
TRACE_STOP_COMPARING = "trace-stop-comparing"
TRACE_RANKING = "trace-ranking"
TRACE_COLUMN = "trace-column"
TRACE_VALUE = "trace-value"
TRACE_LIST = "trace-list"
TRACE_WORDS = "trace-words"
TRACE_VERDICT = "trace-verdict"
TRACE_METHOD = "trace-method"
TRACE_GROUP = "trace-group"
TRACE_GROUPS = "trace-groups"
TRACE_EXPORT = "trace-export"

# the leakage screen
LEAK_START = "leak-start"
LEAK_PART = "leak-part"
LEAK_VERDICT = "leak-verdict"
LEAK_LABELS = "leak-labels"
LEAK_OPEN = "leak-open"
LEAK_PAIRS = "leak-pairs"
LEAK_PAIR = "leak-pair"
LEAK_DECIDE = "leak-decide"
LEAK_UNDO = "leak-undo"
LEAK_REDO = "leak-redo"
LEAK_EXPORT = "leak-export"
LEAK_GROUPS = "leak-groups"
LEAK_MEMBERS = "leak-members"

# the memorization screen
MEM_START = "mem-start"
MEM_RETRAIN = "mem-retrain"
MEM_CLASS = "mem-class"
MEM_HISTOGRAM = "mem-histogram"
MEM_CLEAR = "mem-clear"
MEM_ROWS = "mem-rows"
MEM_ROW = "mem-row"
MEM_NEAR = "mem-near"
MEM_PAGE = "mem-page"
MEM_TEXTS = "mem-texts"
MEM_WORDS = "mem-words"
MEM_NEAR_TEXTS = "mem-near-texts"

# the generation tracing screen
GEN_SOURCE = "gen-source"
GEN_FORM = "gen-form"
GEN_PROMPT = "gen-prompt"
GEN_SEED = "gen-seed"
GEN_STEPS = "gen-steps"
GEN_GUIDANCE = "gen-guidance"
GEN_PAINT = "gen-paint"
GEN_NEXT = "gen-next"
GEN_UPLOAD = "gen-upload"
GEN_UPLOAD_AS = "gen-upload-as"
GEN_PAINTED = "gen-painted"
GEN_PICTURE = "gen-picture"
GEN_TRACE = "gen-trace"
GEN_VIEW = "gen-view"
GEN_BOARD = "gen-board"
GEN_ROW = "gen-row"
GEN_ROW_PICTURE = "gen-row-picture"
GEN_ROW_ASK = "gen-row-ask"
GEN_NOISE = "gen-noise"
GEN_METHOD = "gen-method"
GEN_SHORTLIST = "gen-shortlist"
GEN_GROUP = "gen-group"
GEN_GROUPS = "gen-groups"
GEN_RANGE = "gen-range"
GEN_DIFFER = "gen-differ"
GEN_OTHER = "gen-other"
GEN_COMPARE_DO = "gen-compare-do"
GEN_SWAP = "gen-swap"
GEN_STOP_COMPARING = "gen-stop-comparing"
GEN_CLASSES = "gen-classes"
GEN_SAMPLES = "gen-samples"
GEN_CHECK = "gen-check"
GEN_REPAINTED = "gen-repainted"
