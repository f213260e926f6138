"""Whether outputs can be taken for the model's: better than chance, and related to float32's."""

from __future__ import annotations

from qbench.analysis.statistics import estimates
from qbench.spec.judging import Quality
from qbench.text import percent

UNRELATED_DB = 3.0
"""Below this SQNR outputs have nothing to do with float32's: the noise has half of the signal's
power or more."""
FAR_DB = 10.0
"""Below this SQNR, noise of a tenth of the signal's power, outputs are far from float32's."""
FAR = "far from float32"
"""Flag of a case below ``FAR_DB``."""
MUCH_CLIPPED = 0.05
"""Share of an input's values outside of its file's scale that is reported: calibration leaves out
less."""
CLIPPED = "inputs outside their scale"
"""Flag of a case with ``MUCH_CLIPPED`` or more: its preprocessing is of another model."""
TOLD_CHANCE = {"auc": 0.5, "spearman": 0.0, "mAP50": 0.0, "mAP50-95": 0.0}
"""The value that guessing reaches, by metric; of metrics of classes it is 1 / classes."""
LEVEL = 0.05
"""Of the test whether an accuracy is above another."""
NEAR = 0.25
"""The items are enough to call an accuracy chance if its interval ends within this part of the way
from chance to all right: 12 wrong answers of 1000 classes are, 5 are not."""
FEWEST = 12
"""Items of which a detector that works finds some object."""


def why_wrong(quality: Quality) -> str | None:
    """Why outputs are wrong, in a sentence; None if they may be right.

    - Labelled outputs are wrong if they are no better than chance (:func:`is_chance`).
    - Outputs below ``UNRELATED_DB`` are wrong unless their accuracy is above that of the best
      constant answer (:func:`beats_constant`).
    """
    if is_chance(quality):
        return f"{_accuracy(quality)}, no better than chance{_classes(quality)}{_advice(quality)}"
    unrelated = quality.sqnr_db is not None and quality.sqnr_db < UNRELATED_DB
    if not unrelated or beats_constant(quality):
        return None
    labelled = "" if quality.accuracy is None else f" ({_accuracy(quality)})"
    return f"outputs have nothing to do with float32's: SQNR {quality.sqnr_db:.1f} dB{labelled}"


def is_chance(quality: Quality) -> bool:
    """Whether the accuracy is no better than guessing, and the items are enough to tell.

    Shares of right items: the one-sided exact binomial test at 5 % (Clopper and Pearson,
    Biometrika 1934) does not find it above 1 / classes, and the upper end of its 95 % interval lies
    within a quarter of the way from 1 / classes to all right. Other metrics: the 95 % interval
    holds the value of guessing, and its upper end lies as near to it. mAP: nothing was found in
    ``FEWEST`` items or more.
    """
    chance, accuracy = chance_of(quality), quality.accuracy
    if chance is None or accuracy is None:
        return False
    if quality.metric in ("mAP50", "mAP50-95"):
        return accuracy <= 0 and quality.items >= FEWEST
    high = quality.accuracy_high
    if high is None or high >= chance + NEAR * (1 - chance):
        return False
    return not _above(quality, chance)


def beats_constant(quality: Quality) -> bool:
    """Whether the accuracy is above that of the best constant answer: the most frequent class of
    the labels (the no-information rate; Kuhn, J. Stat. Software 2008), else guessing. The tests are
    those of :func:`is_chance`."""
    level = quality.constant if quality.constant is not None else chance_of(quality)
    return quality.accuracy is not None and level is not None and _above(quality, level)


def chance_of(quality: Quality) -> float | None:
    """The value of the metric that guessing reaches; None if it is not known."""
    if quality.metric in TOLD_CHANCE:
        return TOLD_CHANCE[quality.metric]
    if quality.classes is None:
        return None
    return min(1.0, (5 if quality.metric == "top5" else 1) / quality.classes)


def _above(quality: Quality, level: float) -> bool:
    assert quality.accuracy is not None
    if quality.constant is None:
        return quality.accuracy_low is not None and quality.accuracy_low > level
    right = round(quality.accuracy * quality.items)
    return estimates.chance_of_as_many(right, quality.items, level) < LEVEL


def _accuracy(quality: Quality) -> str:
    assert quality.accuracy is not None
    return f"{quality.metric} is {percent(quality.accuracy, 1)} on {quality.items} items"


def _classes(quality: Quality) -> str:
    return "" if quality.classes is None else f" among {quality.classes} classes"


def _advice(quality: Quality) -> str:
    """The remedy, or the float32 reference's accuracy, which shows that data and card are right."""
    if quality.accuracy is None or quality.accuracy_delta is None:
        return ": check preprocess or class order"
    reference = quality.accuracy - quality.accuracy_delta
    if reference <= quality.accuracy:
        return ": check preprocess or class order"
    return f", where float32 reaches {percent(reference, 1)}"
