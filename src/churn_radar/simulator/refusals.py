"""Mavera's errors, as its reference words them (https://docs.mavera.io/guides/errors)."""

from __future__ import annotations

# status: (type, code, message) of an error of which nothing more particular is known
_PLAIN = {
    400: ("invalid_request_error", "invalid_field", "The request is not valid."),
    401: ("authentication_error", "invalid_api_key", "This API key does not exist."),
    402: ("credit_error", "credits_exhausted", "No credits are left in this billing period."),
    403: ("permission_error", "forbidden", "This key may not use this resource."),
    404: ("not_found_error", "resource_not_found", "There is no such resource."),
    405: ("invalid_request_error", "method_not_allowed", "This method is not supported here."),
    429: ("rate_limit_error", "rate_limit_exceeded", "Too many requests; wait as long as Retry-After says."),
    503: ("api_error", "service_unavailable", "The service is unavailable for the moment."),
}
_OTHER = ("api_error", "internal_error", "Something went wrong on our side.")


class Refused(Exception):
    """A call that is answered with an error. `retry_after_seconds` becomes the Retry-After header."""

    def __init__(
        self,
        status: int,
        code: str | None = None,
        message: str | None = None,
        param: str | None = None,
        retry_after_seconds: int | None = None,
    ) -> None:
        kind, usual_code, usual_message = _PLAIN.get(status, _OTHER)
        super().__init__(message or usual_message)
        self.status = status
        self.retry_after_seconds = retry_after_seconds
        self.error = {
            "message": message or usual_message,
            "type": kind,
            "code": code or usual_code,
            "param": param,
        }

    def as_dict(self) -> dict[str, object]:
        """The error body: `{"error": {"message", "type", "code", "param"}}`."""
        return {"error": self.error}
