"""What became of the customer: outcomes, the links that set them, offers by name, and what is counted. Pure."""
