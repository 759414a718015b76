"""Certificate files change all at once."""

from localmesh.certificates import Identity


def test_files_of_one_issue_stay_together(tmp_path):
    identity = Identity("items", tmp_path / "items")
    for number in ("1", "2", "3"):
        identity.install(certificate=f"cert {number}", key=f"key {number}", ca=f"ca {number}")
        assert [path.read_text()[-1] for path in (identity.certificate, identity.key, identity.ca)] == [number] * 3


def test_nobody_else_can_read_the_key(tmp_path):
    identity = Identity("items", tmp_path / "items")
    identity.install(certificate="cert", key="key", ca="ca")
    assert identity.key.stat().st_mode & 0o777 == 0o600
    assert identity.folder.stat().st_mode & 0o777 == 0o700


def test_old_issues_are_removed(tmp_path):
    identity = Identity("items", tmp_path / "items")
    for _ in range(3):
        identity.install(certificate="cert", key="key", ca="ca")
    assert len([path for path in identity.folder.iterdir() if path.is_dir() and not path.is_symlink()]) == 1
