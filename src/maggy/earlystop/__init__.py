"""Stopping policies: folds that tell hopeless trials from the rest."""

from __future__ import annotations

from maggy.earlystop.median import MedianRule
from maggy.earlystop.registry import POLICY_NAMES, resolve_policy

__all__ = ["POLICY_NAMES", "MedianRule", "resolve_policy"]
