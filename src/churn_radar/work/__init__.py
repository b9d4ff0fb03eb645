"""The durable jobs: what runs, in which order, how often, when it gives up."""
