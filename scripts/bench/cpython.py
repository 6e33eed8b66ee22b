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


def produce_when_told(queue, go, count, size):
    queue.put("ready")
    go.get()
    large = bytes(size)
    for i in range(count):
        queue.put(i if size == 0 else large)


def echo(there, back, count):
    for _ in range(count):
        back.put(there.get())


def channel_rate(producers, count, size):
    queue, go = mp.Queue(4 if size else 0), mp.Queue()
    each = -(-count // producers)
    children = [mp.Process(target=produce_when_told, args=(queue, go, each, size)) for _ in range(producers)]
    for child in children:
        child.start()
    for _ in children:
        queue.get()
    for _ in children:
        go.put("go")
    start = time.perf_counter()
    for _ in range(each * producers):
        queue.get()
    rate = each * producers / (time.perf_counter() - start)
    for child in children:
        child.join()
    return rate


def channel_trip(count):
    there, back = mp.Queue(), mp.Queue()
    child = mp.Process(target=echo, args=(there, back, count + 1))
    child.start()
    there.put(0)
    back.get()
    start = time.perf_counter()
    for i in range(count):
        there.put(i)
        back.get()
    trip = (time.perf_counter() - start) / count * 1e6
    child.join()
    return trip


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

    out["channels"] = {
        "one": channel_rate(1, int(40_000 * scale), 0),
        "four": channel_rate(4, int(40_000 * scale), 0),
        "large": channel_rate(1, int(200 * scale), 1 << 20),
        "trip": channel_trip(int(4000 * scale)),
    }

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
