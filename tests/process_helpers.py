"""A second Python process for tests that compare results between processes.

Importing TensorFlow takes seconds. One process imports it once, and forks a child for every script.
The children have not run TensorFlow, share no state, and hash strings with another seed than the
tests.
"""

import json
import os
import subprocess
import sys
import tempfile
import textwrap
from pathlib import Path

ENVIRONMENT = {"PYTHONHASHSEED": "7", "TF_CPP_MIN_LOG_LEVEL": "3"}

SERVER = """
import json, os, sys, traceback
import keras

def run(job):
    for number, name in ((1, "out"), (2, "err")):
        os.dup2(os.open(job[name], os.O_WRONLY | os.O_CREAT), number)
    sys.argv = ["-c", *job["arguments"]]
    try:
        exec(compile(job["code"], "<script>", "exec"), {"__name__": "__main__"})
        return 0
    except BaseException:
        traceback.print_exc()
        return 1

for line in sys.stdin:
    child = os.fork()
    if child == 0:
        code = run(json.loads(line))
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


class OtherProcess:
    """Runner of scripts in children of one process; it returns their output."""

    def __init__(self):
        self._server = None

    def __call__(self, code, *arguments):
        code, arguments = textwrap.dedent(code), list(map(str, arguments))
        run = self._forked if hasattr(os, "fork") else self._started
        returned, printed, errors = run(code, arguments)
        assert returned == 0, errors
        return printed

    def close(self):
        if self._server is not None:
            self._server.stdin.close()
            self._server.wait()
            self._server.stdout.close()

    def _started(self, code, arguments):
        command = [sys.executable, "-c", code, *arguments]
        done = subprocess.run(
            command, env=os.environ | ENVIRONMENT, capture_output=True, text=True, check=False
        )
        return done.returncode, done.stdout, done.stderr

    def _forked(self, code, arguments):
        if self._server is None:
            self._server = subprocess.Popen(
                [sys.executable, "-c", SERVER],
                env=os.environ | ENVIRONMENT,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
            )
        with tempfile.TemporaryDirectory() as folder:
            out, err = Path(folder, "out"), Path(folder, "err")
            job = {"code": code, "arguments": arguments, "out": str(out), "err": str(err)}
            self._server.stdin.write(json.dumps(job) + "\n")
            self._server.stdin.flush()
            answer = self._server.stdout.readline()
            assert answer, "the process that forks ended"
            return int(answer), out.read_text(), err.read_text()
