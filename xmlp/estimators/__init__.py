"""Estimators on scikit-learn's protocol; they need scikit-learn (the extra `sklearn`)."""

try:
    import sklearn  # noqa: F401
except ImportError:
    raise ImportError('the estimators need scikit-learn: pip install ".[sklearn]" in the folder of xmlp') from None

from xmlp.estimators.classifier import MLPClassifier
from xmlp.estimators.regressor import MLPRegressor

__all__ = ["MLPClassifier", "MLPRegressor"]
