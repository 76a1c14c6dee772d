"""Stopping policies: folds that tell hopeless trials from the rest."""

from __future__ import annotations

from maggy.earlystop.compose import AllOf, AnyOf
from maggy.earlystop.curve import CurveRule
from maggy.earlystop.median import MedianRule
from maggy.earlystop.patience import PatienceRule
from maggy.earlystop.percentile import PercentileRule
from maggy.earlystop.registry import POLICY_NAMES, resolve_policy
from maggy.earlystop.threshold import ThresholdRule

__all__ = [
    "POLICY_NAMES",
    "AllOf",
    "AnyOf",
    "CurveRule",
    "MedianRule",
    "PatienceRule",
    "PercentileRule",
    "ThresholdRule",
    "resolve_policy",
]
