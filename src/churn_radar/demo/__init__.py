"""`churn-radar demo`: the whole service with both upstream services simulated, told as a story."""
