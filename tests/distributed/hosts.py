"""Several hosts on one machine, as root: network namespaces on a bridge, each with a name and an address
of its own. mpirun enters them with a launch agent in ssh's place."""
import os, pathlib, shutil, signal, subprocess, time

NETWORK = '10.177.{}.{}'  # third number: from the process id, so that two suites may run at a time


def why_not():
    """Why hosts cannot be made here; '' where they can."""
    if os.geteuid() != 0:
        return 'making network namespaces needs root'
    for program in ('ip', 'unshare', 'mpirun'):
        if shutil.which(program) is None:
            return f'{program} is not installed'
    name = f'tessera-probe-{os.getpid()}'
    made = subprocess.run(['ip', 'netns', 'add', name], capture_output=True, text=True)
    if made.returncode != 0:
        return 'network namespaces cannot be made: ' + made.stderr.strip()
    entered = subprocess.run(['ip', 'netns', 'exec', name, 'unshare', '--uts', 'true'],
                             capture_output=True, text=True)
    bridge = f'tsp{os.getpid() % 100000}'
    joined = subprocess.run(['ip', 'link', 'add', bridge, 'type', 'bridge'],
                            capture_output=True, text=True)
    subprocess.run(['ip', 'link', 'del', bridge], capture_output=True)
    subprocess.run(['ip', 'netns', 'del', name], capture_output=True)
    if entered.returncode != 0:
        return 'network namespaces cannot be entered: ' + entered.stderr.strip()
    return '' if joined.returncode == 0 else 'bridges cannot be made: ' + joined.stderr.strip()


class Hosts:
    """`count` hosts; a context. Files go into `folder`."""

    def __init__(self, count, folder):
        self.count, self.folder = count, folder
        key = os.getpid() % 10000
        self.bridge = f'tsb{key}'
        self.names = [f'tess{key}x{i + 1}' for i in range(count)]
        self.ports = [f'tsv{key}x{i + 1}' for i in range(count)]
        self.third = 1 + os.getpid() % 254
        self.network = NETWORK.format(self.third, 0) + '/24'
        self.agent = folder / 'agent.sh'
        self.hostfile = folder / 'hosts'

    def ip(self, *words, check=True):
        result = subprocess.run(['ip', *map(str, words)], capture_output=True, text=True)
        if check and result.returncode != 0:
            raise RuntimeError(f'ip {" ".join(map(str, words))}: {result.stderr}')
        return result.stdout

    def address(self, i):
        return NETWORK.format(self.third, i + 1)

    def __enter__(self):
        try:
            self.up()
        except BaseException:
            self.down()
            raise
        return self

    def __exit__(self, *_):
        self.down()

    def up(self):
        self.ip('link', 'add', self.bridge, 'type', 'bridge')
        self.ip('link', 'set', self.bridge, 'up')
        table = '127.0.0.1 localhost\n' + ''.join(
            f'{self.address(i)} {name}\n' for i, name in enumerate(self.names))
        for i, (name, port) in enumerate(zip(self.names, self.ports)):
            self.ip('netns', 'add', name)
            self.ip('link', 'add', port, 'type', 'veth', 'peer', 'name', 'eth0', 'netns', name)
            self.ip('link', 'set', port, 'master', self.bridge, 'up')
            self.ip('-n', name, 'addr', 'add', self.address(i) + '/24', 'dev', 'eth0')
            self.ip('-n', name, 'link', 'set', 'eth0', 'up')
            self.ip('-n', name, 'link', 'set', 'lo', 'up')
            # `ip netns exec` shows this as /etc/hosts inside.
            etc = pathlib.Path('/etc/netns') / name
            etc.mkdir(parents=True)
            (etc / 'hosts').write_text(table)
        # As ssh: AGENT HOST COMMAND...; the command is a shell's.
        self.agent.write_text('#!/bin/sh\nhost="$1"\nshift\nexec ip netns exec "$host" unshare --uts '
                              'sh -c "hostname $host; $*"\n')
        self.agent.chmod(0o755)
        self.hostfile.write_text(''.join(f'{name} slots=1\n' for name in self.names))

    def inside(self, i, words):
        """The words of a command that runs on host i."""
        return ['ip', 'netns', 'exec', self.names[i], 'unshare', '--uts', 'sh', '-c',
                'hostname "$1"; shift; exec "$@"', 'sh', self.names[i], *map(str, words)]

    def cut(self, i):
        self.ip('link', 'set', self.ports[i], 'down')

    def mend(self, i):
        self.ip('link', 'set', self.ports[i], 'up')

    def processes(self, i):
        return [int(p) for p in self.ip('netns', 'pids', self.names[i], check=False).split()]

    def down(self):
        for i, name in enumerate(self.names):
            for process in self.processes(i):
                try:
                    os.kill(process, signal.SIGKILL)
                except ProcessLookupError:
                    pass
            until = time.time() + 5
            while self.processes(i) and time.time() < until:
                time.sleep(0.05)
            self.ip('netns', 'del', name, check=False)
            shutil.rmtree(pathlib.Path('/etc/netns') / name, ignore_errors=True)
        for port in self.ports:
            self.ip('link', 'del', port, check=False)
        self.ip('link', 'del', self.bridge, check=False)
