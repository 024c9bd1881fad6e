"""Who may train in a work directory."""

import errno

import pytest

from jaxseg import workdir
from jaxseg.core import UserError
from jaxseg.data import disk
from jaxseg.workdir import training_in


def test_one_run_at_a_time_trains_in_a_work_directory(tmp_path):
    for _ in range(2):  # the second finds the file of the first
        with training_in(tmp_path / "run"):
            again = training_in(tmp_path / "run")
            with pytest.raises(UserError, match=r"another run trains in .*run; stop it, or give"):
                again.__enter__()
            with training_in(tmp_path / "other"):
                pass


def test_the_first_process_keeps_others_out_for_all(tmp_path, monkeypatch):
    with training_in(tmp_path):
        with pytest.raises(UserError, match="another run trains"), training_in(tmp_path):
            pass
        monkeypatch.setattr(workdir, "is_first", lambda: False)
        entered = []
        with training_in(tmp_path):  # of the same run, whose first process holds the lock
            entered.append(True)
        assert entered


def test_a_file_system_without_locks_stops_no_run(tmp_path, monkeypatch):
    def no_locks(file, operation):
        raise OSError(errno.ENOLCK, "no locks available")

    monkeypatch.setattr(disk.fcntl, "flock", no_locks)
    entered = []
    with training_in(tmp_path), training_in(tmp_path):
        entered.append(True)
    assert entered
