"""One local Supabase with a small library in it, and one scripted model, per test process."""

from collections.abc import AsyncIterator, Iterator

import pytest

from tests.local.models_world import Models, models_at
from tests.local.supabase_world import SHELVES, Project, open_project


@pytest.fixture(scope="session")
async def project(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Project]:
    """REST and Auth, served; what a test writes stays for the next."""
    async with open_project(tmp_path_factory.mktemp("project")) as opened:
        yield opened


@pytest.fixture
def library(project: Project) -> Project:
    """The same, with the shelves as they were in the beginning."""
    project.sql(SHELVES)
    return project


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Models]:
    """The scripted model, served; each test writes scripts of its own."""
    with models_at(tmp_path_factory.mktemp("models")) as served:
        yield served
