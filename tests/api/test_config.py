"""The configuration: file, flags, and errors that name their place."""
import json
import re
import subprocess

import pytest

from conftest import BINARY, Daemon


def run(*arguments):
    return subprocess.run([BINARY, *arguments], check=False, capture_output=True, text=True)


SEED = '''# the seed's own blocks
plugin "exec" {
  config {
    default_pid_mode = "private"
    no_pivot_root    = false
    allow_caps       = ["chown", "kill"]
    denied_host_uids = "0,10-15,4242"
  }
}
client {
  chroot_env { "/bin" = "/bin"  "/lib" = "/lib"  "/lib64" = "/lib64"  "/usr" = "/usr" "/etc/hostname" = "/etc/name" }
}
'''


def test_the_seeds_blocks_work_pasted_in(tmp_path):
    file = tmp_path / "cloister.conf"
    file.write_text(SEED)
    tmp_path.chmod(0o755)
    d = Daemon(BINARY, "--config", file)
    try:
        assert d.get("/v1/config").json["allow_caps"] == ["chown", "kill"]
        assert d.post("/v1/tasks", {"command": "/bin/true", "cap_add": ["setuid"]}).status == 403
        assert d.post("/v1/tasks", {"command": "/bin/true", "user": "4242"}).status == 403
        out = d.sh("ls -d /etc/* /sbin 2>/dev/null; grep CapBnd /proc/self/status")["output"]["stdout"]
        assert out == "/etc/name\nCapBnd:\t0000000000000021\n"
    finally:
        d.stop()


@pytest.mark.parametrize("text,place", [
    ('state_dir = "/x"\nbogus = 1\n', ":2: unknown option bogus"), ("listen = [\n", ":2:1: "), ("max_body = \"x\"\n", ":1: "),
    ('plugin "exec" {\n config {\n  no_pivot_root = "yes"\n }\n}\n', ":3: "), ('a = "${b}"\n', ":1:6: "),
])
def test_errors_name_file_and_line(tmp_path, text, place):
    file = tmp_path / "bad.conf"
    file.write_text(text)
    result = run("--config", file, "--check-config")
    assert result.returncode == 2 and f"{file}{place}" in result.stderr, result.stderr


@pytest.mark.parametrize("listen", ["0.0.0.0:80", "127.0.0.1", "127.0.0.1:99999", "localhost:80", ""])
def test_a_check_finds_an_address_that_cannot_be(listen):
    result = run("--check-config", "--listen", listen)
    assert result.returncode == 2 and "listen: " in result.stderr, result
    assert run("--check-config", "--listen", "[::1]:80").returncode == 0


@pytest.mark.parametrize("name,text,words", [
    ("c.json", "[]", "must hold an object"), ("c.json", '{"client":{"max":{"cpu":1,"cpu":2}}}', "/client/max/cpu"),
    ("c.conf", 'allow_caps = ["chown"]', "the block plugin.exec.config"), ("c.conf", "memory = 5", "unknown option memory\n"),
    ("c.conf", 'tokens_file = "relative"', "tokens_file"), ("c.conf", "client {\n max {\n  memory = -2\n }\n}", "max.memory"),
])
def test_a_fault_is_named(tmp_path, name, text, words):
    file = tmp_path / name
    file.write_text(text)
    result = run("--config", file, "--check-config")
    assert result.returncode == 2 and words in result.stderr, result.stderr


def test_json_file_and_flags(tmp_path):
    file = tmp_path / "cloister.json"
    file.write_text(json.dumps({"listen": "none", "plugin": {"exec": {"config": {"allow_caps": ["kill"]}}}}))
    assert run("--config", file, "--check-config").returncode == 0
    for flags, word in ((["--bogus=1"], "bogus"), (["--max-body", "1"], "max_body"), (["--allow-caps=x"], "allow_caps"),
                        (["--state-dir", "relative"], "relative"), (["stray"], "stray"), (["--listen"], "listen")):
        result = run(*flags, "--check-config")
        assert result.returncode == 2 and word in result.stderr, result.stderr


def test_listening_beyond_loopback_is_refused(tmp_path):
    result = run("--listen", "0.0.0.0:1", "--state-dir", tmp_path / "s", "--run-dir", tmp_path / "r")
    assert result.returncode == 2 and "loopback" in result.stderr


def test_the_manual_page_has_every_option_and_no_fault():
    page = run("--man-page").stdout
    shown = subprocess.run(["groff", "-man", "-ww", "-Tascii", "-P-c", "-P-b", "-P-u"], input=page, capture_output=True,
                           text=True, check=True)
    assert not shown.stderr
    options = set(re.findall(r"^  --([a-z-]+) ", run("--help").stdout, re.M))
    assert len(options) > 50 and options == set(re.findall(r"^       --([a-z-]+) [A-Z]", shown.stdout, re.M))
    for section in ("NAME", "SYNOPSIS", "DESCRIPTION", "OPTIONS", "FILES", "SIGNALS", "ENVIRONMENT", "EXIT STATUS"):
        assert f"\n{section}\n" in shown.stdout


def test_help_names_every_option(daemon):
    text = run("--help").stdout
    for name in daemon.get("/v1/config").json:
        assert f"--{name.replace('_', '-')} " in text
    assert run("--version").stdout.startswith("cloisterd ")
