"""Whether copies to the GPU go on while it computes: batches of a net on one stream, copies on another, each alone and both at
once, by the GPU's own events. Needs torch alone.

    overlap.py WORK

What shows it is the time of both at once against their sum. How far periods by events overlap is told beside it, and is no proof
by itself: a batch that waits for a copy lies beside it as well. Two threads hand the work over, as two instances of a model in
the host do: a copy from pageable memory holds its caller until it is done, and only its caller."""

import pathlib
import sys
import threading

import torch

sys.path.insert(0, str(pathlib.Path(__file__).parent))
from figures import note  # noqa: E402

COUNT, ROWS, BYTES, ROUNDS = 20, 32, 64 << 20, 3


def run(jobs):
    """Each job's work `COUNT` times on a stream and a thread of its own; from when to when each time took, in milliseconds
    after one event that is before all of them."""
    torch.cuda.synchronize()
    first = torch.cuda.Event(enable_timing=True)
    first.record()
    marks = [[] for _ in jobs]

    def work(job, marked):
        with torch.inference_mode(), torch.cuda.stream(torch.cuda.Stream()):
            for _ in range(COUNT):
                begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
                begin.record()
                job()
                end.record()
                marked.append((begin, end))

    threads = [threading.Thread(target=work, args=pair) for pair in zip(jobs, marks)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    torch.cuda.synchronize()
    return [[(first.elapsed_time(begin), first.elapsed_time(end)) for begin, end in marked] for marked in marks]


def union(spans):
    """The same periods without what overlaps among them."""
    joined = []
    for begin, end in sorted(spans):
        if joined and begin <= joined[-1][1]:
            joined[-1][1] = max(joined[-1][1], end)
        else:
            joined.append([begin, end])
    return joined


def length(spans):
    return sum(end - begin for begin, end in union(spans))


def both(one, other):
    """For how long there was something of both."""
    return sum(max(0.0, min(a[1], b[1]) - max(a[0], b[0])) for a in union(one) for b in union(other))


def wall(*spans):
    times = [time for part in spans for span in part for time in span]
    return max(times) - min(times)


def main():
    work = sys.argv[1]
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    module = torch.jit.load(f"{work}/made/conv/1/model.pt", map_location="cuda").eval()
    example = torch.load(f"{work}/conv.examples")["examples"][0][0]
    rows = example.repeat(ROWS, 1, 1, 1).cuda()
    target = torch.empty(BYTES, dtype=torch.uint8, device="cuda")
    pageable = torch.ones(BYTES, dtype=torch.uint8)
    for memory, source in (("pinned", pageable.pin_memory()), ("pageable", pageable)):
        def compute():
            module(rows)

        def copy():
            target.copy_(source, non_blocking=True)

        run([compute, copy])
        measured = []
        for _ in range(ROUNDS):
            alone, copies = run([compute])[0], run([copy])[0]
            computed, copied = run([compute, copy])
            beside = both(computed, copied) / length(copied)
            measured.append((wall(computed, copied), wall(alone), wall(copies), beside))
        together, alone, copies, beside = sorted(measured)[ROUNDS // 2]
        rate = COUNT * BYTES / copies / 1e6
        note(step="overlap", memory=memory, computing_ms=alone, copying_ms=copies, both_ms=together,
             gained=(alone + copies) / together, copies_beside_computing=beside)
        print(f"{memory}: {COUNT} batches of {ROWS} alone {alone:.1f} ms, {COUNT} copies of {BYTES >> 20} MiB alone {copies:.1f} "
              f"ms ({rate:.1f} GB/s), their sum {alone + copies:.1f} ms, both at once {together:.1f} ms "
              f"({(alone + copies) / together:.2f}x as fast); by events {100 * beside:.0f} % of the copies' time is beside "
              "computing", flush=True)


if __name__ == "__main__":
    main()
