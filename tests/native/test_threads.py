"""Threads of a model in processes that fork, exit, or may start no threads; and models that are pickled."""

from __future__ import annotations

import copy
import multiprocessing
import os
import pickle
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from numpy.typing import NDArray

from biper.errors import ModelError
from biper.runtime import Model, load_pretrained
from biper.runtime.engine import engine_is_built

pytestmark = pytest.mark.skipif(not engine_is_built(), reason="needs the native engine")
IMAGES = np.random.default_rng(0).integers(0, 256, (9, 32, 32, 3), np.uint8)
SECONDS = 60


def model(threads: int) -> Model:
    return Model(load_pretrained("cifar10-resnet20").program, threads=threads)


def script(code: str, seconds: float = SECONDS) -> subprocess.CompletedProcess[str]:
    """Run Python in a new process, after the lines that every script here needs."""
    first = (
        "import os, sys, threading, time\n"
        "import numpy as np\n"
        "from biper.runtime import Model, load_pretrained\n"
        "program = load_pretrained('cifar10-resnet20').program\n"
        "images = np.zeros((9, 32, 32, 3), np.uint8)\n"
    )
    return subprocess.run([sys.executable, "-c", first + code], capture_output=True, text=True, timeout=seconds)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the platform has no fork")
def test_a_model_with_threads_works_in_a_forked_process_and_its_parent() -> None:
    """Other threads of the parent use the model at the moment of each fork; each child uses it and ends normally."""
    run = script("""
model = Model(program, threads=3)
expected = model(images)
alone = Model(program)(images)
assert (expected == alone).all()
going = True
def use():
    while going:
        model(images[:1])
users = [threading.Thread(target=use) for _ in range(2)]
for user in users:
    user.start()
for number in range(20):
    child = os.fork()
    if child == 0:
        right = all((model(images[:count]) == expected[:count]).all() for count in (1, 9))
        sys.exit(0 if right else 1)
    assert os.waitpid(child, 0)[1] == 0, number
going = False
for user in users:
    user.join()
assert (model(images) == expected).all()
print("done")
""")
    assert (run.returncode, run.stdout) == (0, "done\n"), run.stderr


def _answers(one: Model, images: NDArray[np.uint8]) -> NDArray[np.float32]:
    return one(images)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the platform has no fork")
def test_a_pool_of_forked_processes_takes_a_model_as_an_argument() -> None:
    used = model(2)
    expected = used(IMAGES)
    with multiprocessing.get_context("fork").Pool(2) as pool:
        for answer in pool.starmap_async(_answers, [(used, IMAGES)] * 4).get(SECONDS):
            assert np.array_equal(answer, expected)


def test_a_model_is_pickled_and_copied_by_its_content() -> None:
    used = model(3)
    for again in (pickle.loads(pickle.dumps(used)), copy.deepcopy(used), copy.copy(used)):
        assert type(again) is Model
        assert again.threads == 3
        assert again.classes == used.classes
        assert np.array_equal(again(IMAGES), used(IMAGES))


def test_the_process_may_end_while_a_daemon_thread_computes() -> None:
    run = script("""
model = Model(program, threads=2)
def use():
    while True:
        model(images)
for _ in range(3):
    threading.Thread(target=use, daemon=True).start()
time.sleep(0.1)
sys.exit(5)
""")
    assert (run.returncode, run.stderr) == (5, "")


@pytest.mark.skipif(sys.platform != "linux", reason="reads the memory of the process in /proc")
def test_threads_that_the_system_refuses_are_an_error_and_the_process_goes_on() -> None:
    """The stacks of 1000 threads, or of one more, do not fit into the memory that the process may have."""
    run = script("""
import resource
from biper.errors import ModelError
from biper.runtime.engine import Engine
engine, model, alone = Engine(program, threads=1000), Model(program, threads=2), Model(program)
many = np.zeros((2000, 3, 32, 32), np.float32)
alone(images)
for room, attempt in ((1 << 20, lambda: model(images)), (400 << 20, lambda: engine(many))):
    used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + room, resource.RLIM_INFINITY))
    for _ in range(2):
        try:
            attempt()
        except (RuntimeError, ModelError) as error:
            print(type(error).__name__, error)
print(alone(images).shape)
resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
print(model(images).shape)
""")
    assert run.returncode == 0, run.stderr
    *errors, refused, freed = run.stdout.splitlines()
    assert refused == freed == "(9, 10)"
    assert [line.split()[0] for line in errors] == ["ModelError", "ModelError", "RuntimeError", "RuntimeError"]
    assert all("the system started " in line for line in errors)
    assert all(line.endswith("; ask for fewer") for line in errors[:2])


@pytest.mark.parametrize("threads", [0, -1, 1025, 10**30, 1.5, "2", True])
def test_a_number_of_threads_that_is_none_is_an_error(threads: object) -> None:
    with pytest.raises(ModelError, match=r"threads=\.\.\. expects an integer from 1 to 1024, got "):
        model(threads)  # type: ignore[arg-type]
    assert model(np.int64(2)).threads == 2  # type: ignore[arg-type]


def test_an_environment_variable_says_how_many_threads_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    assert load_pretrained("digits-cnn").threads == 1
    monkeypatch.setenv("BIPER_THREADS", "2")
    assert load_pretrained("digits-cnn").threads == 2
    assert load_pretrained("digits-cnn", threads=3).threads == 3
    for wrong in ("0", "two", "", "1025", "9" * 5000, "\u0662"):
        monkeypatch.setenv("BIPER_THREADS", wrong)
        with pytest.raises(ModelError, match="BIPER_THREADS expects an integer from 1 to 1024, got "):
            load_pretrained("digits-cnn")


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="the platform does not choose processors")
def test_more_threads_than_processors_cost_no_time() -> None:
    """Eight images on one processor. Threads that waited for each other in a loop took up to 3.7 times as long.

    Measured is the time of the processor, which other processes do not change. A thread that waits in a loop takes it:
    1.15 to 1.24 times as much on a busy machine.
    """
    run = script("""
os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
models = [Model(program, threads=threads) for threads in (1, 2, 8)]
times = [[], [], []]
for turn in range(25):
    for model, each in zip(models, times):
        start = time.process_time()
        model(images[:8])
        each.append(time.process_time() - start)
one, *others = map(sum, times)
print(max(others) / one)
""")
    assert run.returncode == 0, run.stderr
    assert float(run.stdout) < 1.08


def test_sixteen_threads_share_a_model_and_get_its_bits() -> None:
    """1,000 calls on one image or many, of a model that shares each call among threads and of one that does not."""
    shared = {threads: model(threads) for threads in (1, 3)}
    expected = shared[1](IMAGES)

    def call(number: int) -> bool:
        begin = number % len(IMAGES)
        end = len(IMAGES) if number % 50 == 0 else begin + 1
        answer = shared[3 if number % 4 else 1](IMAGES[begin:end])
        return bool(np.array_equal(answer, expected[begin:end]))

    with ThreadPoolExecutor(16) as pool:
        assert sum(pool.map(call, range(1000))) == 1000


@pytest.mark.skipif(sys.platform != "linux", reason="reads the memory of the process in /proc")
@pytest.mark.parametrize("times", [500, pytest.param(10_000, marks=pytest.mark.slow)])
def test_loading_calling_and_freeing_a_model_keeps_no_memory(times: int) -> None:
    """The memory of the process grows by less than 1 MiB, after a first tenth in which the allocator settles."""
    run = script(
        f"""
from biper.errors import ModelFormatError
from biper.runtime.pretrained import pretrained_file
blob = pretrained_file("cifar10-resnet20").read_bytes()
broken = blob[:-1] + bytes([blob[-1] ^ 1])
def memory():
    for line in open("/proc/self/status"):
        if line.startswith("VmRSS"):
            return int(line.split()[1]) << 10
def once(number):
    model = Model.load(blob, threads=1 + number % 3)
    model(images[:1 + number % 2])
    try:
        Model.load(broken)
    except ModelFormatError:
        pass
for number in range({times} // 10):
    once(number)
before = memory()
for number in range({times}):
    once(number)
print(memory() - before)
""",
        seconds=600,
    )
    assert run.returncode == 0, run.stderr
    assert int(run.stdout) < 1 << 20
