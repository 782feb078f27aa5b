"""What hostile scripts try, each as source. A script says ``BREACH`` where it got through.

Names in braces are replaced: ``{secret}`` a file of the user's, ``{engine}`` the number of the
process that runs the sandbox, ``{victim}`` another process of the user's, ``{port}``, ``{unix}``
and ``{abstract}`` servers of the user's, ``{root}`` this project, ``{home}`` the user's home.
"""

# ruff: noqa: E501 (the lines of the scripts are not ours)

from __future__ import annotations

PRELUDE = """
import ctypes, errno, json, mmap, os, signal, socket, stat, subprocess, sys, threading, time
libc = ctypes.CDLL(None, use_errno=True)
def attempt(what, *arguments, **words):
    try:
        print("BREACH", getattr(what, "__name__", what), what(*arguments, **words))
    except BaseException as error:
        print("held", type(error).__name__)
def call(number, *arguments):
    if libc.syscall(number, *arguments) < 0:
        raise OSError(ctypes.get_errno(), "refused")
def denied(number, *arguments):
    ctypes.set_errno(0)
    libc.syscall(number, *arguments)
    if ctypes.get_errno() not in (errno.EPERM, errno.ENOSYS):
        print("BREACH", number, ctypes.get_errno())
def read(path):
    with open(path, "rb") as file:
        return file.read(200)
def write(path, data=b"x"):
    with open(path, "ab") as file:
        file.write(data)
def spawn(what):
    if os.fork() == 0:
        try:
            what()
        finally:
            os._exit(0)
"""

ATTACKS: dict[str, str] = {
    # files
    "read the password file": "attempt(read, '/etc/passwd'); attempt(read, '/etc/shadow')",
    "read a file of the user": "attempt(read, {secret!r})",
    "read it over /proc": (
        "for p in ('/proc/1', '/proc/self', '/proc/{engine}', f'/proc/{os.getppid()}'):\n"
        "    attempt(read, p + '/root' + {secret!r}); attempt(read, p + '/cwd/README.md')\n"
        "    attempt(os.listdir, p + '/fd')"
    ),
    "read this project": (
        "attempt(read, '{root}/common/errors.py')\n"
        "try: found = os.listdir('{root}')\n"
        "except OSError: found = []\n"
        "if found and found != ['.venv']: print('BREACH', found)  # on the way to Python"
    ),
    "look for keys": (
        "for home in ('/root', '/home', {home!r}, '/work', '/mnt', '/srv', '/var', '/opt', '/run'):\n"
        "    for folder in ('', '/.ssh', '/.aws', '/.config', '/.git', '/.cache'):\n"
        "        try:\n"
        "            found = os.listdir(home + folder)\n"
        "        except OSError:\n"
        "            continue\n"
        "        if len(found) > 2: print('BREACH', home + folder, found)  # up to 2 lead to Python"
    ),
    "change a library": (
        "attempt(write, json.__file__); attempt(os.unlink, json.__file__)\n"
        "attempt(os.rename, json.__file__, json.__file__ + 'x')\n"
        "attempt(os.truncate, json.__file__, 0)\n"
        "attempt(write, os.path.join(sys.path[-1], 'sitecustomize.py'))\n"
        "attempt(write, sys.executable or '/usr/lib/x')"
    ),
    "change attributes": (
        "attempt(os.chmod, json.__file__, 0o777); attempt(os.chmod, {secret!r}, 0o777)\n"
        "attempt(os.utime, {secret!r}, (1, 1)); attempt(os.chown, {secret!r}, 1, 1)\n"
        "fd = os.open(json.__file__, os.O_RDONLY); attempt(os.fchmod, fd, 0o777)\n"
        "attempt(os.setxattr, {secret!r}, 'user.x', b'1')"
    ),
    "change a file of the user": (
        "attempt(write, {secret!r}); attempt(os.truncate, {secret!r}, 0)\n"
        "attempt(os.unlink, {secret!r}); attempt(os.rename, {secret!r}, 'mine')\n"
        "attempt(os.rename, 'script', {secret!r})"
    ),
    "write elsewhere": (
        "for folder in ('/', '/etc', '/usr/lib', '/var/tmp', '/dev', '/run', '/root', '/home', '/in',\n"
        "               os.path.dirname({secret!r}), '{root}', '../in', '/lib', '/box/in'):\n"
        "    attempt(write, folder + '/upspiral-attack')\n"
        "    attempt(os.mkdir, folder + '/upspiral-attack-folder')"
    ),
    "change an input": (
        "attempt(write, '../in/data.txt'); attempt(write, '../in/linked.txt')\n"
        "attempt(os.unlink, '../in/script.py'); attempt(os.rename, '../in/data.txt', 'd')\n"
        "attempt(os.symlink, {secret!r}, '../in/more')"
    ),
    # what is left in the folder
    "leave a link": (
        "os.symlink({secret!r}, 'a'); os.symlink('/', 'b'); os.symlink('../../../../etc/passwd', 'c')"
    ),
    "leave a hard link": "attempt(os.link, {secret!r}, 'a'); attempt(os.link, json.__file__, 'b')",
    "leave special files": (
        "attempt(os.mkfifo, 'fifo'); attempt(os.mknod, 'disk', stat.S_IFBLK | 0o666, 8 << 8)\n"
        "attempt(os.mknod, 'null', stat.S_IFCHR | 0o666, 0x103)\n"
        "attempt(lambda: socket.socket(socket.AF_UNIX).bind('s'))"
    ),
    "put a link in the folder's place": (
        "try:\n    os.rename('../out', '../tmp/old'); os.symlink(os.path.dirname({secret!r}), '../out')\n"
        "except OSError as error: print('held', error)"
    ),
    "leave odd names": (
        "for name in (b'\\xff\\xfe', b'a\\nb', b'x' * 255, b'\\x1b[31m', b' ', b'-rf', b'..x'):\n"
        "    os.close(os.open(name, os.O_CREAT | os.O_WRONLY))"
    ),
    "nest folders": (
        "for i in range(3000):\n    os.mkdir('d'); os.chdir('d')\nopen('deep', 'w').write('x')"
    ),
    "close a folder": "os.mkdir('shut', 0); os.umask(0o777); open('file', 'w').write('x')",
    # the environment and other processes
    "read the environment": (
        "print(dict(os.environ))\n"
        "for pid in (1, os.getppid(), {engine}, {victim}):\n"
        "    attempt(read, f'/proc/{pid}/environ'); attempt(read, f'/proc/{pid}/cmdline')\n"
        "if len(os.environ) > 3: print('BREACH', os.environ)"
    ),
    "write to the kernel": (
        "for path in ('/proc/sys/kernel/core_pattern', '/proc/sysrq-trigger', '/proc/self/mem',\n"
        "             '/proc/{engine}/mem', '/sys/kernel/uevent_helper', '/dev/mem', '/dev/kmsg',\n"
        "             '/proc/{engine}/oom_score_adj', '/dev/tty', '/dev/console', '/dev/ptmx'):\n"
        "    attempt(os.open, path, os.O_WRONLY)"
    ),
    "find open descriptors": (
        "for fd in range(3, 1024):\n"
        "    try:\n        print('BREACH', fd, os.fstat(fd))\n"
        "    except OSError:\n        pass"
    ),
    "kill the engine": (
        "for pid in ({engine}, {victim}, -{engine}, -{victim}):\n"
        "    for number in (0, signal.SIGTERM, signal.SIGKILL): attempt(os.kill, pid, number)"
    ),
    "kill everybody": "signal.signal(15, signal.SIG_IGN); os.kill(-1, 15); os.kill(-1, 9)",
    "kill the keeper": (
        "for pid in (os.getppid(),):\n"
        "    try: os.kill(pid, signal.SIGKILL)\n    except OSError as error: print('held', error)\n"
        "os.kill(0, signal.SIGTERM); time.sleep(5)"
    ),
    "trace the engine": (
        "attempt(call, 101, 16, {engine}, 0, 0); attempt(call, 101, 0x4206, {victim}, 0, 0)\n"
        "attempt(call, 310, {engine}, None, 0, None, 0, 0); attempt(os.pidfd_open, {engine})\n"
        "attempt(call, 438, 3, 0, 0)"
    ),
    "slow the engine down": (
        "import resource\n"
        "attempt(os.setpriority, os.PRIO_PROCESS, {engine}, 19)\n"
        "attempt(os.sched_setaffinity, {victim}, [0])\n"
        "attempt(resource.prlimit, {victim}, resource.RLIMIT_NOFILE, (0, 0))\n"
        "attempt(call, 251, 1, {victim}, 3 << 13)"
    ),
    "have the kernel signal the engine": (
        "import fcntl\nr, w = os.pipe()\n"
        "attempt(fcntl.fcntl, r, fcntl.F_SETOWN, {engine}); attempt(fcntl.fcntl, r, 10, 9)"
    ),
    # the network
    "connect": "attempt(socket.create_connection, ('127.0.0.1', {port}), 2)",
    "send a datagram": (
        "attempt(lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM)"
        ".sendto(b'x', ('127.0.0.1', {port})))"
    ),
    "ask for a name": "attempt(socket.getaddrinfo, 'example.org', 80)",
    "fetch a page": (
        "import urllib.request\nattempt(urllib.request.urlopen, 'http://127.0.0.1:{port}/', timeout=2)"
    ),
    "connect to a local server": (
        "attempt(lambda: socket.socket(socket.AF_UNIX).connect({unix!r}))\n"
        "attempt(lambda: socket.socket(socket.AF_UNIX).connect('\\0{abstract}'))"
    ),
    "be a server": "attempt(socket.create_server, ('0.0.0.0', 0)); attempt(socket.socketpair, 2)",
    "open odd sockets": (
        "for family in (16, 17, 38, 40, 44, 1, 2, 10, 31):\n"
        "    for kind in (1, 2, 3, 5): attempt(socket.socket, family, kind)"
    ),
    # processes
    "fork without end": "while True:\n    try: os.fork()\n    except OSError: pass",
    "start threads without end": (
        "while True:\n"
        "    try: threading.Thread(target=time.sleep, args=(60,), daemon=True).start()\n"
        "    except RuntimeError: time.sleep(0.01)"
    ),
    "leave a daemon": (
        "def daemon():\n    os.setsid()\n    spawn(lambda: (os.closerange(0, 3), time.sleep(300)))\n"
        "spawn(daemon); time.sleep(0.1); print('left it')"
    ),
    "leave a daemon that holds the output": (
        "def daemon():\n    os.setsid(); spawn(lambda: time.sleep(300))\nspawn(daemon); time.sleep(0.1)"
    ),
    "leave daemons that breed": (
        "def breed():\n"
        "    for number in (1, 2, 3, 15): signal.signal(number, signal.SIG_IGN)\n"
        "    os.setsid()\n"
        "    while True:\n"
        "        if os.fork(): os._exit(0)\n"
        "for _ in range(4): spawn(breed)\n"
        "time.sleep(0.2)"
    ),
    "run a program": (
        "for name in ('/bin/sh', '/usr/bin/id', '/usr/bin/env', '/bin/busybox', '/usr/bin/su'):\n"
        "    attempt(subprocess.run, [name])\nattempt(subprocess.run, 'id', shell=True)"
    ),
    # time
    "loop and ignore signals": (
        "for number in range(1, 65):\n"
        "    try: signal.signal(number, signal.SIG_IGN)\n"
        "    except (OSError, ValueError): pass\n"
        "signal.pthread_sigmask(signal.SIG_BLOCK, range(1, 65))\nwhile True: pass"
    ),
    "sleep": "os.closerange(0, 3); time.sleep(600)",
    "stop itself": "os.kill(os.getpid(), signal.SIGSTOP)",
    "hang in C": "import re; re.match(r'(a+)+$', 'a' * 64 + 'b')",
    "use all processors": (
        "for _ in range(3): spawn(lambda: [None for _ in iter(int, 1)])\nwhile True: pass"
    ),
    # memory and disk
    "take memory at once": "attempt(bytearray, 64 << 30); attempt(bytearray, 2 << 30)",
    "take memory in pieces": ("held = []\nwhile True: held.append(bytearray(1 << 24))"),
    "take memory in many processes": (
        "def take():\n    held = bytearray(100 << 20)\n    time.sleep(60)\n"
        "for _ in range(16): spawn(take)\ntime.sleep(60)"
    ),
    "take shared memory": (
        "held = mmap.mmap(-1, 3 << 30)\n"
        "for at in range(0, 3 << 30, 1 << 20): held[at:at + (1 << 20)] = b'x' * (1 << 20)"
    ),
    "leave shared memory": (
        "attempt(call, 29, 0x5350, 4096, 0o1666); attempt(write, '/dev/shm/upspiral-attack')\n"
        "attempt(call, 240, b'/upspiral', 0o102, 0o600, None); attempt(call, 248, b'user', b'k', b'v', 1, -3)"
    ),
    "write a huge file": "with open('huge', 'wb') as f:\n    while True: f.write(bytes(1 << 20))",
    "write a sparse file": "attempt(os.truncate, os.open('s', os.O_CREAT | os.O_RDWR), 1 << 40)",
    "fill the disk": (
        "for i in range(10**6):\n    with open(f'f{i}', 'wb') as f: f.write(bytes(4 << 20))"
    ),
    "fill the scratch folder": (
        "for i in range(10**6):\n"
        "    with open(os.environ['TMPDIR'] + f'/f{i}', 'wb') as f: f.write(bytes(4 << 20))"
    ),
    "make files without end": (
        "import itertools\nfor i in itertools.count(): os.close(os.open(f'f{i}', os.O_CREAT))"
    ),
    # output
    "flood stdout": "while True: os.write(1, b'y' * 65536)",
    "flood stderr": "while True: os.write(2, b'n' * 65536)",
    "flood both from many": (
        "def flood():\n    while True: os.write(1, b'x' * 4096); os.write(2, b'x' * 4096)\n"
        "for _ in range(4): spawn(flood)\nos._exit(0)"
    ),
    "print no text": "os.write(1, bytes(range(256))); os.write(2, b'\\xff\\x00\\xed\\xa0\\x80')",
    # privilege
    "mount": (
        "for n in (b'tmpfs', b'proc', b'sysfs'): attempt(call, 165, b'x', b'/', n, 0, None)\n"
        "attempt(call, 165, b'/', b'/', None, 32 | 4096, None)\n"
        "attempt(call, 165, None, b'/usr/lib', None, 32, None); attempt(call, 166, b'/usr/lib', 2)"
    ),
    "make namespaces": (
        "for flag in (0x10000000, 0x20000, 0x40000000, 0x20000000): attempt(call, 272, flag)\n"
        "attempt(call, 56, 0x10000000 | 17, 0, 0, 0, 0); attempt(call, 308, 0, 0)"
    ),
    "change root": "attempt(os.chroot, '.'); attempt(call, 155, b'.', b'.')",
    "become root": (
        "if os.getuid(): attempt(os.setuid, 0)\n"
        "header = b'\\x22\\x05\\x08\\x20' + bytes(4)\nfull = b'\\xff' * 24\n"
        "attempt(call, 126, header, full)"
    ),
    "call what no job needs": (
        "for n in (101, 135, 153, 154, 155, 163, 165, 167, 169, 172, 173, 175, 176, 179, 246, 248,\n"
        "          250, 254, 256, 272, 298, 300, 303, 304, 308, 310, 311, 312, 313, 320, 321, 323, 425,\n"
        "          426, 427, 428, 429, 430, 432, 435, 438, 440, 442, 443, 448, 467, 600, 0x40000027):\n"
        "    if n != 254: denied(n, 0, 0, 0, 0, 0, 0)"
    ),
    "speak to a terminal": (
        "import fcntl\nfor fd in (0, 1, 2):\n"
        "    for request in (0x5412, 0x541C): attempt(fcntl.ioctl, fd, request, b'x')"
    ),
    "call as 32 bits": (
        "code = mmap.mmap(-1, 4096, prot=7)\n"
        "code.write(b'\\xb8\\x14\\x00\\x00\\x00\\xcd\\x80\\xc3')\n"
        "address = ctypes.addressof(ctypes.c_char.from_buffer(code))\n"
        "print('BREACH', ctypes.CFUNCTYPE(ctypes.c_int)(address)())"
    ),
    "crash": "os.abort()",
}
