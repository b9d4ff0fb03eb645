"""churn_radar: Customer.io churn signals in, retention research briefs out."""

__version__ = "0.1.0"
