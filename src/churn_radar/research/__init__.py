"""The prompt, the Mavera client, and the brief that comes back."""
