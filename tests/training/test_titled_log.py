import gzip

import pytest

from rankstream.training.datasets import DatasetError
from rankstream.training.titled_log import read_titled_log

ITEMS = 'item_id\ttitle\n7\tRed &amp; "blue" box\n3\tred & "Blue" box\n9\tTent\n'
LOG = "user_id\titem_id\tts\tqty\nu2\t9\t100\t1\nu1\t7\t100\t2\nu2\t3\t250\t1\n"


def write(folder, items=ITEMS, log=LOG):
    (folder / "items.tsv.gz").write_bytes(gzip.compress(items.encode()))
    (folder / "interactions.tsv.gz").write_bytes(gzip.compress(log.encode()))
    return folder


def test_a_folder_reads(tmp_path):
    data = read_titled_log(write(tmp_path))

    assert data.name == tmp_path.name
    assert (data.n_users, data.n_items) == (2, 3)
    assert data.item_ids == ("7", "3", "9")
    assert data.titles[0] == 'Red & "blue" box'
    assert data.log.users.tolist() == [0, 1, 0]
    assert data.log.items.tolist() == [2, 0, 1]
    assert data.log.times_s.tolist() == [100, 100, 250]


def test_titles_that_differ_in_case_alone_are_one(tmp_path):
    first, second, other = read_titled_log(write(tmp_path)).title_numbers.tolist()

    assert first == second != other


@pytest.mark.parametrize(
    ("log", "problem"),
    [
        ("user_id\titem_id\tts\nu\t8\t1\n", "expected known items"),
        ("user_id\titem_id\tts\nu\t7\tnoon\n", "whole seconds"),
        ("user_id\titem_id\tts\nu\t7\t2\nu\t7\t1\n", "not in the order of time"),
        ("user_id\titem_id\tts\nu\t7\n", "expected 3 columns"),
    ],
)
def test_what_does_not_read_names_the_file(tmp_path, log, problem):
    with pytest.raises(DatasetError, match=problem) as raised:
        read_titled_log(write(tmp_path, log=log))
    assert "interactions.tsv.gz" in str(raised.value)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(DatasetError, match=r"items\.tsv\.gz"):
        read_titled_log(tmp_path)


def test_a_file_cut_off_is_named(tmp_path):
    write(tmp_path)
    whole = (tmp_path / "interactions.tsv.gz").read_bytes()
    (tmp_path / "interactions.tsv.gz").write_bytes(whole[:-9])

    with pytest.raises(DatasetError, match=r"interactions\.tsv\.gz"):
        read_titled_log(tmp_path)
