"""Names are completed in a shell."""

import os
import shutil
import subprocess

import pytest

from localmesh import cli


@pytest.mark.parametrize(
    ("words", "found"),
    [
        (["ca"], ["call"]),
        (["call", "it"], ["items"]),
        (["call", "items", "Get"], ["GetItem"]),
        (["call", "nobody", ""], []),
        (["status", ""], []),
    ],
)
def test_candidates(words, found, capsys):
    assert cli.main(["complete", "--", *words]) == 0
    assert capsys.readouterr().out.split() == found


def test_every_command_is_completed(capsys):
    with pytest.raises(SystemExit):
        cli.main(["--help"])
    told = capsys.readouterr().out
    for command in cli.COMMANDS:
        assert f"    {command} " in told or f"    {command}\n" in told


def test_bash_completes(capsys, tmp_path):
    bash = shutil.which("bash")
    assert bash is not None
    assert cli.main(["completion", "bash"]) == 0
    script = capsys.readouterr().out
    fake = tmp_path / "mesh"
    fake.write_text('#!/bin/sh\n[ "$1 $3 $4" = "complete call it" ] && echo items\n')
    fake.chmod(0o755)
    tried = f'{script}COMP_WORDS=({fake} call it); COMP_CWORD=2; _mesh; echo "${{COMPREPLY[@]}}"'
    done = subprocess.run([bash, "-c", tried], capture_output=True, text=True, env=os.environ, check=True)  # noqa: S603
    assert done.stdout.strip() == "items"


def test_without_a_mesh_a_call_says_what_to_do(capsys, tmp_path):
    assert cli.main(["--state", str(tmp_path), "call", "items", "GetItem"]) == 4
    assert "./mesh up starts it" in capsys.readouterr().err
