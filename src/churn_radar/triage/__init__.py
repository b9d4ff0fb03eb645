"""Pure rules: is it a churn signal, is the customer worth it, which persona."""
