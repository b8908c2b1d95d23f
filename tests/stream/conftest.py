"""What lanes and the writer tell workers without a commit."""

import pytest

from rankstream.server.announce import Announcements


@pytest.fixture
def page(tmp_path):
    return Announcements(tmp_path / "announce", write=True)
