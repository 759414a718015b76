"""Logs do not grow for ever, and what writes them notices nothing."""

import subprocess
import sys

from localmesh.log_files import rotate


def test_a_short_log_stays(tmp_path):
    log = tmp_path / "x.log"
    log.write_text("line\n")
    assert not rotate(log, limit=100)
    assert not rotate(tmp_path / "none.log", limit=100)
    assert [path.name for path in tmp_path.iterdir()] == ["x.log"]


def test_the_latest_are_kept_in_order(tmp_path):
    log = tmp_path / "x.log"
    for number in range(6):
        log.write_text(f"{number}" * 200)
        assert rotate(log, limit=100, kept=3)
    kept = {path.name: path.read_text()[0] for path in tmp_path.iterdir() if path != log}
    assert kept == {"x.log.1": "5", "x.log.2": "4", "x.log.3": "3"}
    assert log.read_text() == ""


def test_a_process_writes_on_at_the_start_of_the_emptied_file(tmp_path):
    log = tmp_path / "x.log"
    script = "import sys\nfor line in sys.stdin: print(line, end='', flush=True)"
    with log.open("ab") as output:
        process = subprocess.Popen(  # noqa: S603
            [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=output, text=True
        )
    assert process.stdin is not None
    _say(process, log, "before " * 50)
    assert rotate(log, limit=100)
    _say(process, log, "after")
    process.stdin.close()
    process.wait(10)
    assert log.read_text() == "after\n"
    assert (tmp_path / "x.log.1").stat().st_size > 100


def _say(process, log, text):
    size = log.stat().st_size
    process.stdin.write(f"{text}\n")
    process.stdin.flush()
    while log.stat().st_size == size:
        pass
