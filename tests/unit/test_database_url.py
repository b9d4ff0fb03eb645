from __future__ import annotations

import pytest
from pydantic import ValidationError

from churn_radar.settings import Environment, IsolatedSettings
from churn_radar.store.postgres import is_postgres, shown

POSTGRES = "postgresql://jo:a-password@db.example:5433/radar?sslmode=require"


@pytest.mark.parametrize("url", ["sqlite:///./record.db", "sqlite:////data/record.db", POSTGRES, "postgres://h/d"])
def test_a_file_or_a_postgres_database_may_hold_the_record(url: str) -> None:
    assert IsolatedSettings(environment=Environment.DEVELOPMENT, database_url=url).database_url == url


@pytest.mark.parametrize("url", ["", "sqlite:///", "sqlite://", "mysql://h/d", "record.db", "postgresql://", "host/db"])
def test_anything_else_is_refused_without_being_quoted(url: str) -> None:
    with pytest.raises(ValidationError) as caught:
        IsolatedSettings(environment=Environment.DEVELOPMENT, database_url=url)
    [problem] = caught.value.errors()
    assert (
        problem["msg"] == "Value error, not a database this release knows: sqlite:///FILE or postgresql://HOST/DATABASE"
    )


def test_a_password_is_never_shown() -> None:
    settings = IsolatedSettings(environment=Environment.DEVELOPMENT, database_url=POSTGRES)
    assert "a-password" not in repr(settings)
    assert shown(POSTGRES) == "postgresql://db.example:5433/radar"
    assert shown("postgresql:///radar") == "postgresql:///radar"
    assert shown("postgres://jo:p%40ss@[::1]/radar") == "postgresql://[::1]/radar"


def test_a_scheme_tells_which_database_it_is() -> None:
    assert is_postgres(POSTGRES)
    assert not is_postgres("sqlite:///postgresql://")
