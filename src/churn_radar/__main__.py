"""`python -m churn_radar`."""

from churn_radar.cli import main

main()
