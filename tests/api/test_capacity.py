"""Who is let in, who waits, and when ended tasks go."""
import concurrent.futures
import os
import signal
import subprocess
import threading
import time

import pytest

from conftest import BINARY, Daemon, wait_until


@pytest.fixture
def make_daemon():
    made = []

    def make(*flags):
        made.append(Daemon(BINARY, *flags))
        return made[-1]
    yield make
    for d in made:
        d.stop()


def create(daemon, script="exec sleep 60", **spec):
    return daemon.post("/v1/tasks", {"command": "/bin/sh", "args": ["-c", script], **spec})


def states(daemon):
    return {t["name"]: t["state"] for t in daemon.get("/v1/tasks?limit=1000").json["items"]}


def test_the_node_tells_totals_and_what_is_free(make_daemon):
    d = make_daemon("--memory-total-mb", "1000", "--reserved-memory", "200", "--cpu-total-compute", "4000")
    before = d.get("/v1/node").json
    assert before["total"]["memory"] == 1000 and before["reserved"]["memory"] == 200 and before["free"]["memory"] == 800
    assert before["total"]["cpu"] == 4000 and before["tasks"]["running"] == 0
    task = create(d, resources={"memory": 300, "cpu": 1000}).json
    now = d.get("/v1/node").json
    assert now["allocated"] == {"memory": 300, "cores": 0, "cpu": 1000} and now["free"]["memory"] == 500
    assert now["free"]["cpu"] == 3000 and now["tasks"]["running"] == 1
    d.request("DELETE", f"/v1/tasks/{task['id']}?force=true")
    assert d.get("/v1/node").json["free"] == before["free"]


def test_what_does_not_fit_is_refused_at_once_and_leaves_nothing(make_daemon):
    d = make_daemon("--memory-total-mb", "100")
    assert create(d, resources={"memory": 80}).status == 201
    before = d.census()
    reply = create(d, resources={"memory": 30})
    assert (reply.status, reply.json["code"]) == (503, "no_capacity")
    assert int(reply.headers["Retry-After"]) > 0 and reply.json["errors"][0]["pointer"] == "/resources/memory"
    d.assert_as_before(before)
    assert create(d, resources={"memory": 20}).status == 201
    assert create(d).status == 201  # without a limit it takes no room


def test_what_could_never_fit_is_the_callers_fault(make_daemon):
    d = make_daemon("--memory-total-mb", "100", "--reserved-memory", "10")
    for queue in (False, True):
        reply = create(d, resources={"memory": 91}, queue=queue)
        assert reply.status == 422 and reply.json["errors"][0]["pointer"] == "/resources/memory"


def test_the_number_of_tasks_is_bounded_however_many_ask(make_daemon):
    d = make_daemon("--max-tasks", "5")
    with concurrent.futures.ThreadPoolExecutor(10) as pool:
        codes = [r.status for r in pool.map(lambda _: create(d), range(20))]
    assert sorted(codes) == [201] * 5 + [503] * 15


def test_who_waits_starts_by_priority_then_age(make_daemon):
    d = make_daemon("--max-tasks", "1")
    first = create(d, name="first").json
    replies = {}

    def ask(name, priority):
        replies[name] = create(d, name=name, queue=True, priority=priority)
    threads = []
    for name, priority in (("low", 10), ("old", 50), ("new", 50), ("high", 90)):
        threads.append(threading.Thread(target=ask, args=(name, priority)))
        threads[-1].start()
        wait_until(lambda n=name: states(d).get(n) == "pending", 10, f"{name} pending")
    assert d.get("/v1/node").json["tasks"]["pending"] == 4
    order = []
    current = first["id"]
    for _ in range(4):
        assert d.request("DELETE", f"/v1/tasks/{current}?force=true").status == 204
        running = wait_until(lambda: [n for n, s in states(d).items() if s == "running"], 10, "the next one")
        order += running
        current = next(t["id"] for t in d.get("/v1/tasks").json["items"] if t["name"] == running[0])
    for thread in threads:
        thread.join(20)
    assert order == ["high", "old", "new", "low"]
    assert all(r.status == 201 and r.json["state"] == "running" for r in replies.values())


def test_nobody_overtakes_who_waits(make_daemon):
    d = make_daemon("--memory-total-mb", "100")
    create(d, resources={"memory": 60})
    waiting = create_pending(d, "big", resources={"memory": 80})
    reply = create(d, resources={"memory": 10})
    assert (reply.status, reply.json["code"]) == (503, "no_capacity")
    assert create(d, resources={"memory": 10}, priority=51).status == 201
    assert d.request("DELETE", f"/v1/tasks/{waiting}?force=true").status == 204
    assert create(d, resources={"memory": 10}).status == 201


def create_pending(d, name, **spec):
    body = {"command": "/bin/sleep", "args": ["60"], "name": name, "queue": True, **spec}
    reply = d.post("/v1/tasks?timeout=0s", body)
    assert reply.status == 201 and reply.json["state"] == "pending", reply.body
    return reply.json["id"]


def change_memory(d, task, mib):
    return d.request("PATCH", f"/v1/tasks/{task}", {"resources": {"memory": mib}})


def test_room_that_a_change_frees_goes_to_who_waits(make_daemon):
    d = make_daemon("--memory-total-mb", "100")
    first = create(d, resources={"memory": 80}).json["id"]
    waiting = create_pending(d, "waits", resources={"memory": 60})
    assert change_memory(d, first, 40).status == 200
    wait_until(lambda: d.task(waiting)["state"] == "running", 10, "its start")
    other = create_pending(d, "needs-less", resources={"memory": 60})
    assert change_memory(d, other, None).status == 200
    wait_until(lambda: d.task(other)["state"] == "running", 10, "its start")


def test_a_change_takes_no_room_that_others_have(make_daemon):
    d = make_daemon("--memory-total-mb", "100")
    first = create(d, resources={"memory": 40}).json["id"]
    create(d, resources={"memory": 40})
    reply = change_memory(d, first, 61)
    assert (reply.status, reply.json["code"], reply.json["errors"][0]["pointer"]) == \
        (503, "no_capacity", "/resources/memory")
    assert d.task(first)["spec"]["resources"]["memory"] == 40 and d.get("/v1/node").json["free"]["memory"] == 20
    assert change_memory(d, first, 60).status == 200
    waiting = create_pending(d, "waits", resources={"memory": 30})
    reply = change_memory(d, waiting, 101)  # it would wait for ever, and others behind it
    assert (reply.status, reply.json["errors"][0]["pointer"]) == (422, "/resources/memory")
    assert change_memory(d, waiting, 90).status == 200


def test_who_waits_survives_a_restart_of_the_daemon(make_daemon):
    d = make_daemon("--max-tasks", "1")
    first = create(d).json
    waiting = create_pending(d, "waits")
    d.process.kill()
    d.process.wait()
    d.start()
    assert d.task(waiting)["state"] == "pending"
    d.request("DELETE", f"/v1/tasks/{first['id']}?force=true")
    wait_until(lambda: d.task(waiting)["state"] == "running", 10, "its start")


def test_who_could_never_start_any_more_does_not_hold_others_up(make_daemon):
    d = make_daemon("--memory-total-mb", "100")
    first = create(d, resources={"memory": 50}).json["id"]
    big = create_pending(d, "big", resources={"memory": 80})
    small = create_pending(d, "small", resources={"memory": 20})
    d.process.kill()
    d.process.wait()
    d.flags = ("--memory-total-mb", "70")
    d.start()
    task = d.wait_ended(big)
    assert task["state"] == "failed"
    assert "70 MiB" in task["error"]["detail"], task
    wait_until(lambda: d.task(small)["state"] == "running", 10, "the start of who waited behind it")
    assert d.task(first)["state"] == "running"


def test_a_pending_task_can_be_stopped_and_removed(make_daemon):
    d = make_daemon("--max-tasks", "1")
    create(d)
    waiting = create_pending(d, "waits")
    assert d.post(f"/v1/tasks/{waiting}/signal", {"signal": "TERM"}).json["code"] == "task_not_running"
    assert d.post(f"/v1/tasks/{waiting}/stop?wait=exited", {}).json["state"] == "failed"
    assert d.task(waiting)["error"]["code"] == "canceled"
    assert d.request("DELETE", f"/v1/tasks/{waiting}").status == 204
    other = create_pending(d, "waits-too")
    assert d.request("DELETE", f"/v1/tasks/{other}?force=true").status == 204


def test_a_change_of_memory_is_admitted_as_a_new_task_is(make_daemon):
    d = make_daemon("--memory-total-mb", "100")
    task = create(d, resources={"memory": 80}, name="first").json["id"]
    waits = create_pending(d, "waits", resources={"memory": 60})
    for each in (task, waits):
        reply = d.request("PATCH", f"/v1/tasks/{each}", {"resources": {"memory": 101}})
        assert (reply.status, reply.json["errors"][0]["pointer"]) == (422, "/resources/memory")
    assert states(d) == {"first": "running", "waits": "pending"}
    assert d.request("PATCH", f"/v1/tasks/{task}", {"resources": {"memory": 50}}).status == 200
    assert d.request("PATCH", f"/v1/tasks/{waits}", {"resources": {"memory": 50}}).status == 200
    wait_until(lambda: states(d)["waits"] == "running", what="the start of what fits now")


def test_room_is_not_given_away_before_it_is_free(make_daemon):
    """A change that its supervisor has not made yet may fail: the kernel need not find memory to take away."""
    d = make_daemon("--memory-total-mb", "100")
    task = create(d, resources={"memory": 80}).json["id"]
    supervisor = next(pid for pid, name in d.children().items() if name != "cloister-server")
    os.kill(supervisor, signal.SIGSTOP)
    try:
        changing = threading.Thread(target=change_memory, args=(d, task, 40))
        changing.start()
        wait_until(lambda: d.task(task)["spec"]["resources"]["memory"] == 40, what="the change")
        assert d.get("/v1/node").json["allocated"]["memory"] == 80
        assert create(d, resources={"memory": 60}).json["code"] == "no_capacity"
    finally:
        os.kill(supervisor, signal.SIGCONT)
    changing.join()
    assert d.get("/v1/node").json["allocated"]["memory"] == 40
    assert create(d, resources={"memory": 60}).status == 201


def test_the_queue_has_a_bound(make_daemon):
    d = make_daemon("--max-tasks", "1", "--max-queued", "1")
    create(d)
    create_pending(d, "waits")
    reply = create(d, queue=True)
    assert (reply.status, reply.json["code"]) == (503, "queue_full")


# --- garbage collection -----------------------------------------------------------------------------------------------

def test_ttl_removes_the_task_and_its_files(own_daemon):
    d = own_daemon
    task = d.run("/bin/true", ttl="500ms")
    assert task["id"] in d.directories()
    wait_until(lambda: not d.rows() and not d.directories(), 10, "the removal")
    assert d.get(f"/v1/tasks/{task['id']}").status == 404


def test_ttl_counts_while_the_daemon_is_down(own_daemon):
    d = own_daemon
    d.run("/bin/true", ttl="2s")
    kept = d.run("/bin/true", ttl="1h")
    d.process.kill()
    d.process.wait()
    time.sleep(2)
    d.start()
    wait_until(lambda: d.rows() == [kept["id"]], 5, "the removal of the first")


def test_ttl_counts_from_the_end_of_a_task_that_waited_for_its_restart(own_daemon):
    d = own_daemon
    task = d.start_task("/bin/sh", "-c", "exit 3", restart={"attempts": 1, "delay": "1h"}, ttl="3s")
    wait_until(lambda: d.task(task["id"])["state"] == "restarting", 10, "the wait for its restart")
    time.sleep(3.5)
    assert d.post(f"/v1/tasks/{task['id']}/stop?wait=exited", {}).json["state"] == "exited"
    time.sleep(0.5)
    assert d.task(task["id"])["state"] == "exited"
    wait_until(lambda: d.get(f"/v1/tasks/{task['id']}").status == 404, 20, "its removal")


def test_ttl_counts_from_the_end_of_a_task_that_waited_for_room(make_daemon):
    d = make_daemon("--max-tasks", "1")
    create(d)
    waiting = create_pending(d, "waits", ttl="3s")
    time.sleep(3.5)
    assert d.post(f"/v1/tasks/{waiting}/stop?wait=exited", {}).json["state"] == "failed"
    time.sleep(0.5)
    assert d.task(waiting)["state"] == "failed"
    wait_until(lambda: d.get(f"/v1/tasks/{waiting}").status == 404, 20, "its removal")


def test_a_ttl_can_be_changed_after_the_end(own_daemon):
    d = own_daemon
    task = d.run("/bin/true", ttl="1h")
    assert d.request("PATCH", f"/v1/tasks/{task['id']}", {"ttl": "100ms"}).status == 200
    wait_until(lambda: not d.rows(), 5, "the removal")


def test_a_bound_on_the_number_keeps_the_newest(make_daemon):
    d = make_daemon("--gc-max-allocs", "3", "--gc-min-age", "0s", "--gc-interval", "200ms")
    ids = [d.run("/bin/true")["id"] for _ in range(8)]
    running = create(d).json["id"]
    wait_until(lambda: d.rows() == sorted([*ids[-3:], running]), 10, "the removal of the oldest")


def test_a_bound_on_the_age(make_daemon):
    d = make_daemon("--gc-max-age", "1s", "--gc-interval", "200ms")
    d.run("/bin/true")
    running = create(d).json["id"]
    wait_until(lambda: d.rows() == [running], 10, "the removal")


def test_a_full_disk_is_relieved_of_the_oldest_first(tmp_path):
    image, mount = tmp_path / "disk", tmp_path / "mount"
    mount.mkdir()
    with open(image, "wb") as f:
        f.truncate(64 << 20)
    subprocess.run(["mke2fs", "-q", "-t", "ext4", "-m", "0", image], check=True)
    subprocess.run(["mount", "-o", "loop", image, mount], check=True)
    tmp_path.chmod(0o755)
    for parent in tmp_path.parents[:2]:
        parent.chmod(0o755)
    d = None
    try:
        d = Daemon(BINARY, "--state-dir", mount / "state", "--gc-min-age", "0s", "--gc-interval", "1h",
                   "--gc-disk-usage-threshold", "50")
        d.directories = lambda: []
        ids = [d.sh("head -c 10000000 /dev/zero > /local/x")["id"] for _ in range(2)]
        assert d.rows() == sorted(ids)
        ids += [d.sh("head -c 10000000 /dev/zero > /local/x")["id"] for _ in range(3)]
        wait_until(lambda: ids[0] not in d.rows(), 10, "the removal of the oldest")
        assert ids[-1] in d.rows()
        d.stop()
    finally:
        if d and d.process.poll() is None:
            d.process.kill()
            d.process.wait()
        wait_until(lambda: subprocess.run(["umount", mount], check=False).returncode == 0, 10, "the unmount")


def test_collect_now_removes_all_that_ended_and_counts(own_daemon):
    d = own_daemon
    for _ in range(5):
        d.run("/bin/true")
    running = create(d).json["id"]
    reply = d.post("/v1/gc", {})
    assert reply.status == 200 and reply.json == {"removed": 5}
    assert d.rows() == [running] and d.directories() == [running]
    assert d.post("/v1/gc", {}).json == {"removed": 0}


def test_a_collection_answers_although_somebody_else_removes_what_it_was_to_remove(make_daemon):
    d = make_daemon("--gc-parallel-destroys", "1")
    for _ in range(15):
        d.run("/bin/true")
    large = d.sh("mkdir /local/d; cd /local/d; for i in $(seq 20000); do : > $i; done")["id"]
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        collection = pool.submit(d.post, "/v1/gc", {}, timeout=20)  # the next look is in a minute
        wait_until(lambda: len(d.directories()) < 16, 10, "the first removal")
        assert d.request("DELETE", f"/v1/tasks/{large}").status == 204
        assert collection.result().status == 200


def test_a_collection_answers_although_tasks_end_all_the_time(make_daemon):
    d = make_daemon("--gc-parallel-destroys", "1")
    over = threading.Event()

    def load():
        while not over.is_set():
            d.post("/v1/tasks?wait=exited", {"command": "/bin/true", "ttl": "1ms"})
    with concurrent.futures.ThreadPoolExecutor(12) as pool:
        try:
            loads = [pool.submit(load) for _ in range(12)]
            wait_until(lambda: d.get("/v1/node").json["tasks"]["exited"] > 20, 20, "more ends than removals")
            assert d.post("/v1/gc", {}, timeout=30).json["removed"] > 0
        finally:
            over.set()
        assert [f.result() for f in loads] == [None] * 12


def test_collection_and_deletion_do_not_trip_over_each_other(own_daemon):
    d = own_daemon
    ids = [d.run("/bin/true")["id"] for _ in range(10)]
    with concurrent.futures.ThreadPoolExecutor(12) as pool:
        deletions = [pool.submit(d.request, "DELETE", f"/v1/tasks/{i}") for i in ids]
        collections = [pool.submit(d.post, "/v1/gc", {}) for _ in range(3)]
        assert all(f.result().status in (204, 404) for f in deletions)
        assert all(f.result().status == 200 for f in collections)
    wait_until(lambda: not d.rows() and not d.directories(), 5, "the removal of all")
