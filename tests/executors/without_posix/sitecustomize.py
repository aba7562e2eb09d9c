"""Makes an interpreter one whose standard library has nothing that POSIX alone has; it is found on PYTHONPATH.

What was imported before keeps what it had: `subprocess`, `multiprocessing` and `psutil` need it to work here. All that
is imported from now on, pyexp and its scripts, gets modules without it. It is also the guardian, which looks at no
PYTHONPATH.
"""

import importlib
import importlib.util
import os
import signal
import subprocess
import sys
from types import ModuleType

if __name__ == "__main__":
    sys.path += sys.argv[2:]  # where psutil is

KEEP = """
    concurrent.futures.process multiprocessing.popen_fork multiprocessing.synchronize psutil selectors shutil subprocess
    tempfile threading
"""
for name in KEEP.split():
    importlib.import_module(name)

MISSING = {
    "fcntl": None,
    "grp": None,
    "pty": None,
    "pwd": None,
    "resource": None,
    "termios": None,
    "faulthandler": "register unregister",
    "os": """
        CLD_EXITED EFD_CLOEXEC F_LOCK O_CLOEXEC O_DIRECTORY O_DSYNC O_NOCTTY O_NOFOLLOW O_NONBLOCK O_SYNC P_ALL P_PGID
        P_PID P_PIDFD SCHED_OTHER WCONTINUED WCOREDUMP WEXITED WEXITSTATUS WIFEXITED WIFSIGNALED WIFSTOPPED WNOHANG
        WNOWAIT WSTOPPED WSTOPSIG WTERMSIG WUNTRACED chown chroot copy_file_range ctermid eventfd fchdir fchmod fchown
        fork forkpty fpathconf getegid geteuid getgid getgroups getloadavg getpgid getpgrp getpriority getresuid getsid
        getuid initgroups killpg lchown lockf major memfd_create mkfifo mknod nice openpty pathconf pidfd_open pipe2
        posix_fadvise posix_fallocate posix_spawn posix_spawnp pread preadv pwrite pwritev readv register_at_fork
        sched_getaffinity sched_setaffinity sched_yield sendfile set_blocking seteuid setgid setpgid setpriority setsid
        setuid statvfs sync sysconf tcgetpgrp tcsetpgrp ttyname wait wait3 wait4 waitid writev
    """,
    "select": "epoll poll EPOLLIN POLLIN",
    "signal": """
        SIGALRM SIGCHLD SIGCONT SIGHUP SIGKILL SIGPIPE SIGQUIT SIGRTMAX SIGRTMIN SIGSTOP SIGTSTP SIGUSR1 SIGUSR2
        SIGWINCH SIG_BLOCK SIG_SETMASK SIG_UNBLOCK alarm pause pidfd_send_signal pthread_kill pthread_sigmask setitimer
        siginterrupt sigpending sigtimedwait sigwait sigwaitinfo
    """,
    "socket": "AF_UNIX CMSG_LEN CMSG_SPACE SCM_RIGHTS recv_fds send_fds",
}


def without(module: ModuleType, missing: str) -> ModuleType:
    """A copy of the module without these names."""
    names = missing.split()
    copy = ModuleType(module.__name__)
    vars(copy).update({name: value for name, value in vars(module).items() if name not in names})
    return copy


sys.modules.update({
    name: missing and without(importlib.import_module(name), missing) for name, missing in MISSING.items()
})  # fmt: skip
# What Windows has in its place: Ctrl-C is passed on as another signal, and there is no session.
sys.modules["signal"].SIGBREAK = sys.modules["signal"].CTRL_BREAK_EVENT = signal.SIGUSR1
subprocess.CREATE_NEW_PROCESS_GROUP = 0

if __name__ == "__main__":
    spec = importlib.util.spec_from_file_location("guardian", os.environ["GUARDIAN"])
    guardian = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(guardian)
else:
    from pyexp.worker import guardian

    os.environ["GUARDIAN"], guardian.__file__ = guardian.__file__, __file__
guardian.PROC = "/nowhere"
if __name__ == "__main__":
    guardian.main()
