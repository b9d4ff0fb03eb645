"""The door: signature, typed payloads, the webhook route, the acknowledgement."""
