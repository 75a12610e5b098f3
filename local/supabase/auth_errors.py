"""Auth's refusals, as supabase-auth clients read them: https://supabase.com/docs/guides/auth/debugging/error-codes."""

from __future__ import annotations

from typing import Any


class AuthError(Exception):
    """One refusal: the HTTP status, the code that clients switch on, the text, and further members of the body."""

    def __init__(self, status: int, error_code: str, message: str, **more: Any) -> None:
        super().__init__(message)
        self.status = status
        self.body = {"code": status, "error_code": error_code, "msg": message, **more}


def invalid_credentials() -> AuthError:
    """A wrong password and an unknown address are told alike."""
    return AuthError(400, "invalid_credentials", "Invalid login credentials")


def weak_password(minimum: int) -> AuthError:
    """Too short."""
    message = f"Password should be at least {minimum} characters."
    return AuthError(422, "weak_password", message, weak_password={"reasons": ["length"], "message": message})


def user_not_found() -> AuthError:
    """No user has this id."""
    return AuthError(404, "user_not_found", "User not found")


def bad_refresh_token() -> AuthError:
    """No session has this token."""
    return AuthError(400, "refresh_token_not_found", "Invalid Refresh Token: Refresh Token Not Found")


def used_refresh_token() -> AuthError:
    """A token that was exchanged before; its whole session is closed for it."""
    return AuthError(400, "refresh_token_already_used", "Invalid Refresh Token: Already Used")


def email_taken(code: str = "user_already_exists") -> AuthError:
    """Sign-up says `user_already_exists`, the others `email_exists`."""
    if code == "user_already_exists":
        return AuthError(422, code, "User already registered")
    return AuthError(422, code, "A user with this email address has already been registered")
