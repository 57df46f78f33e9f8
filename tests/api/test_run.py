"""Commands run, and their ends are told exactly."""
import concurrent.futures
import grp
import pwd

import pytest


def test_the_command_is_pid_1_and_nobody(daemon):
    task = daemon.run("/usr/bin/python3", "-c", "import os;print(os.getpid(),os.getuid())")
    assert task["output"]["stdout"] == "1 65534\n"
    assert task["exit"]["code"] == 0 and task["exit"]["signal"] is None


def test_every_exit_code_is_told(daemon):
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        codes = list(pool.map(lambda n: daemon.sh(f"exit {n}")["exit"]["code"], range(256)))
    assert codes == list(range(256))


@pytest.mark.parametrize("name", ["KILL", "SEGV", "TERM"])
def test_death_by_signal_is_told(daemon, name):
    # pid 1 of a namespace does not die of its own signals, so a task in the host's namespace sends it to itself.
    task = daemon.sh(f"kill -{name} $$", pid_mode="host")
    assert task["exit"]["signal"] == f"SIG{name}" and task["exit"]["code"] is None


def test_both_streams_and_stdin(daemon):
    task = daemon.sh("cat; echo err >&2", stdin="line 1\nline 2")
    assert task["output"] == {"stdout": "line 1\nline 2", "stderr": "err\n", "encoding": "utf-8", "truncated": False}


def test_bytes_that_are_no_text_come_as_base64(daemon):
    task = daemon.sh(r"printf '\377\000a'")
    assert task["output"]["encoding"] == "base64" and task["output"]["stdout"] == "/wBh"


def test_output_reopened_by_name(daemon):
    assert daemon.sh("echo here > /dev/stdout; echo there > /dev/stderr")["output"]["stdout"] == "here\n"


def test_large_output_rotates_and_keeps_the_newest(daemon):
    task = daemon.sh("head -c 5000000 /dev/zero | tr '\\0' x; echo end", logs={"max_files": 2, "max_file_size": 1})
    text = daemon.get(f"/v1/tasks/{task['id']}/logs?stream=stdout").body
    assert text.endswith(b"xend\n") and 1 << 20 <= len(text) <= 2 << 20


def test_environment(daemon):
    task = daemon.sh("env", env={"MINE": "a b", "PATH": "/bin:/usr/bin"}, name="web",
                     resources={"cpu": 500, "memory": 64, "memory_max": 128})
    env = dict(line.split("=", 1) for line in task["output"]["stdout"].splitlines())
    expected = {"MINE": "a b", "PATH": "/bin:/usr/bin", "NOMAD_TASK_NAME": "web", "NOMAD_ALLOC_DIR": "/alloc",
                "NOMAD_TASK_DIR": "/local", "NOMAD_SECRETS_DIR": "/secrets", "NOMAD_CPU_LIMIT": "500",
                "NOMAD_MEMORY_LIMIT": "64", "NOMAD_MEMORY_MAX_LIMIT": "128", "NOMAD_ALLOC_ID": task["id"],
                "USER": "nobody", "LOGNAME": "nobody"}
    assert expected.items() <= env.items()


@pytest.mark.parametrize("name", ["www-data", "games", "nobody"])
def test_user_by_name_has_exactly_its_groups(daemon, name):
    account = pwd.getpwnam(name)
    groups = {account.pw_gid} | {g.gr_gid for g in grp.getgrall() if name in g.gr_mem}
    out = daemon.sh("id -u; id -g; id -G", user=name)["output"]["stdout"].split("\n")
    assert out[:2] == [str(account.pw_uid), str(account.pw_gid)]
    assert {int(g) for g in out[2].split()} == groups


def test_user_by_number(daemon):
    out = daemon.sh("id -u; id -g; id -G", user="4242:4343")["output"]["stdout"].split()
    assert out == ["4242", "4343", "4343"]


def test_work_dir_is_made(daemon):
    assert daemon.sh("pwd; touch here", work_dir="/local/deep/er")["output"]["stdout"] == "/local/deep/er\n"


def test_command_is_searched_in_path(daemon):
    assert daemon.run("echo", "found")["output"]["stdout"] == "found\n"


def test_a_compiler_works(daemon):
    task = daemon.sh("cd /local && echo 'int main(void){return 7;}' > a.c && gcc a.c -o a && ./a; echo $?")
    assert task["output"]["stdout"] == "7\n", task["output"]


def test_own_directories_are_writable(daemon):
    task = daemon.sh("for d in /local /alloc/data /tmp /dev/shm /secrets; do echo x > $d/f && cat $d/f; done")
    assert task["output"]["stdout"] == "x\n" * 5, task["output"]


@pytest.mark.parametrize("spec,status,pointer", [
    ({"cap_add": ["sys_admin"]}, 403, "/cap_add/0"), ({"cap_add": ["chown", "all"]}, 403, "/cap_add/1"),
    ({"cap_add": ["no_such"]}, 422, "/cap_add/0"), ({"cap_drop": ["no_such"]}, 422, "/cap_drop/0"),
    ({"seccomp": "no_such"}, 422, "/seccomp"), ({"seccomp": "unconfined"}, 403, "/seccomp"),
    ({"resources": {"io": {"limits": [{"device": "/dev/null", "read_bps": 1}]}}}, 422, "/resources/io"),
    ({"resources": {"hugetlb": [{"page_size": "3MB", "limit": 3}]}}, 422, "/resources/hugetlb"),
], ids=str)
def test_dry_run_refuses_what_a_start_refuses(daemon, spec, status, pointer):
    for query in ("", "?dry_run=true"):
        reply = daemon.post(f"/v1/tasks{query}", {"command": "/bin/true", **spec})
        assert reply.status == status, reply.body
        assert reply.json["errors"][0]["pointer"].startswith(pointer), reply.body  # the field, or what the host lacks


def test_dry_run_starts_nothing(daemon):
    before = daemon.rows()
    reply = daemon.post("/v1/tasks?dry_run=true", {"command": "/bin/true"})
    assert reply.status == 200 and reply.json["spec"]["user"] == "nobody" and daemon.rows() == before
