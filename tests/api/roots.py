"""Small root trees for tests: a few programs of the host with the libraries that they need."""
import hashlib
import os
import pathlib
import shutil
import stat
import subprocess

PROGRAMS = ["sh", "cat", "ls", "stat", "id", "touch", "mkdir", "readlink", "rm", "true", "mount", "chmod", "sleep"]


def libraries(program):
    out = subprocess.run(["ldd", program], check=True, capture_output=True, text=True).stdout
    return {word for word in out.split() if word.startswith("/")}


def make_image(root, programs=PROGRAMS):
    """A root as debootstrap leaves one, but small: merged /usr, links at the top, an /etc of its own."""
    root = pathlib.Path(root)
    for directory in ("usr/bin", "usr/lib", "usr/lib64", "etc", "srv", "mnt"):
        (root / directory).mkdir(parents=True)
    for name in ("bin", "lib", "lib64"):
        (root / name).symlink_to(f"usr/{name}")
    files = set()
    for program in programs:
        found = shutil.which(program, path="/usr/bin:/bin")
        shutil.copy2(found, root / "usr/bin" / program)
        files |= libraries(found)
    for library in files:
        target = root / library.lstrip("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(library, target)
    (root / "etc/passwd").write_text("root:x:0:0::/:/bin/sh\nnobody:x:65534:65534::/:/bin/sh\n")
    return root


def fingerprint(root):
    """All that a task could change of a tree: names, kinds, modes, owners, links, times and contents."""
    found = {}
    for directory, names, files in os.walk(root):
        for name in [".", *names, *files]:
            path = os.path.join(directory, name)
            s = os.lstat(path)
            content = None
            if stat.S_ISREG(s.st_mode):
                content = hashlib.sha256(pathlib.Path(path).read_bytes()).hexdigest()
            elif stat.S_ISLNK(s.st_mode):
                content = os.readlink(path)
            found[path] = (s.st_mode, s.st_uid, s.st_gid, s.st_nlink, s.st_ino, s.st_mtime_ns, content)
    return found
