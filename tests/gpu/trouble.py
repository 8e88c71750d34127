"""What goes wrong with a GPU, provoked beside callers, for tests/gpu.sh: memory that somebody else has, and an assertion after
which it takes nothing any more. Needs torch alone."""

import http.client
import pathlib
import sys
import threading
import time

import torch

sys.path.insert(0, str(pathlib.Path(__file__).parent))
from asking import ask, difference  # noqa: E402
from figures import note  # noqa: E402

TOLERANCE = 1e-4


class Callers:
    """Threads that ask conv for its examples until they are told to stop, and look at every answer."""

    def __init__(self, work, address, count, phase, pause):
        self.known = torch.load(f"{work}/conv.examples")
        self.address, self.phase, self.pause = address, phase, pause
        self.statuses, self.wrong, self.lock, self.ended = {}, [], threading.Lock(), threading.Event()
        self.threads = [threading.Thread(target=self.call, args=(number,)) for number in range(count)]
        for thread in self.threads:
            thread.start()

    def call(self, number):
        example = number % len(self.known["examples"])
        while not self.ended.is_set():
            try:
                status, answer = ask(self.address, "conv", self.known["names"], self.known["examples"][example])
            except (http.client.HTTPException, OSError):
                status, answer = "no connection", None
            with self.lock:
                self.statuses[self.phase, status] = self.statuses.get((self.phase, status), 0) + 1
                if status == 200 and float(difference(answer[0], self.known["answers"][example]).max()) > TOLERANCE:
                    self.wrong.append("another answer")
            if status != 200:
                time.sleep(self.pause)

    def stop(self):
        self.ended.set()
        for thread in self.threads:
            thread.join()
        return ", ".join(f"{phase} {status}: {count}" for (phase, status), count in sorted(self.statuses.items(), key=str))


def pressure(work, address):
    """Somebody takes all but little of the GPU's memory before rows come; then gives it back under the load."""
    held = []
    while torch.cuda.mem_get_info()[0] > 32 << 20:
        try:
            held.append(torch.empty(torch.cuda.mem_get_info()[0] - (16 << 20), dtype=torch.uint8, device="cuda"))
        except torch.OutOfMemoryError:
            break
    left = torch.cuda.mem_get_info()[0]
    callers = Callers(work, address, 48, "without memory", 0.05)
    time.sleep(5)
    held.clear()
    torch.cuda.empty_cache()
    callers.phase = "afterwards"
    time.sleep(5)
    told = callers.stop()
    refused = sum(count for (_, status), count in callers.statuses.items() if status != 200)
    answered = callers.statuses.get(("afterwards", 200), 0)
    note(step="pressure", left_bytes=left, refused=refused, wrong=len(callers.wrong), answered_afterwards=answered)
    return f"48 callers while all but {left >> 20} MiB of the GPU are taken: {told}; {len(callers.wrong)} wrong"


def ready(address):
    """The status of readiness; `None` where nobody listens any more."""
    try:
        connection = http.client.HTTPConnection(address, timeout=5)
        connection.request("GET", "/health/ready")
        return connection.getresponse().status
    except (http.client.HTTPException, OSError):
        return None


def lost(work, address):
    """An id that model.toml allows and the table does not have, beside callers of another model on the same GPU."""
    table = torch.load(f"{work}/table.examples")
    callers = Callers(work, address, 16, "before", 0.02)
    time.sleep(1)
    good = ask(address, "table", table["names"], table["examples"][0])[0]
    callers.phase, begun = "after", time.monotonic()
    bad = ask(address, "table", table["names"], (torch.tensor([[1, 50, 3, 4]]),))
    answered = time.monotonic() - begun
    unready = closed = None
    while closed is None and time.monotonic() - begun < 40:
        status, now = ready(address), time.monotonic() - begun
        if status != 200 and unready is None:
            unready = f"{status} after {now:.2f} s"
        closed = now if status is None else None
        time.sleep(0.02)
    told = callers.stop()
    note(step="lost", status=bad[0], answered_s=answered, closed_s=closed, wrong=len(callers.wrong))
    return (f"a good id {good}; a bad one {bad[0]} after {answered:.2f} s ({bad[1]!r:.200}); ready {unready}; nobody listens "
            f"after {closed if closed is None else round(closed, 2)} s; 16 callers of another model: {told}; "
            f"{len(callers.wrong)} wrong")


if __name__ == "__main__":
    print({"lost": lost, "pressure": pressure}[sys.argv[1]](*sys.argv[2:]))
