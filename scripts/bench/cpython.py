"""CPython's side of the benchmark: one JSON object on stdout. Run once a round, so that both sides see the same machine."""
import json
import multiprocessing as mp
import sys
import time


def pong(ping, back, rounds):
    for _ in range(rounds):
        ping.acquire()
        back.release()


def produce(queue, count):
    for i in range(count):
        queue.put(i)


def nothing():
    pass


def main():
    scale = float(sys.argv[1])
    mp.set_start_method("spawn")
    out = {}

    lock = mp.Lock()
    n = int(200_000 * scale)
    start = time.perf_counter()
    for _ in range(n):
        lock.acquire()
        lock.release()
    out["lock"] = (time.perf_counter() - start) / n * 1e9

    ping, back = mp.Semaphore(0), mp.Semaphore(0)
    rounds = int(5_000 * scale)
    child = mp.Process(target=pong, args=(ping, back, rounds))
    child.start()
    ping.release()
    back.acquire()
    start = time.perf_counter()
    for _ in range(rounds - 1):
        ping.release()
        back.acquire()
    out["pingpong"] = (time.perf_counter() - start) / (rounds - 1) * 1e6
    child.join()

    queue = mp.Queue()
    count = int(50_000 * scale)
    child = mp.Process(target=produce, args=(queue, count))
    child.start()
    queue.get()
    start = time.perf_counter()
    for _ in range(count - 1):
        queue.get()
    out["queue"] = (count - 1) / (time.perf_counter() - start)
    child.join()

    times = []
    for _ in range(5):
        start = time.perf_counter()
        child = mp.Process(target=nothing)
        child.start()
        child.join()
        times.append((time.perf_counter() - start) * 1e3)
    out["process"] = sorted(times)[len(times) // 2]
    json.dump(out, sys.stdout)


if __name__ == "__main__":
    main()
