"""Callers that do not rest while something happens to the server."""

import threading


class RestlessThreads:
    """Threads that ``run`` inside of a ``with``, and end behind it: ``stopping`` tells them."""

    def __init__(self, count):
        self.stopping = threading.Event()
        self._threads = [threading.Thread(target=self.run) for _ in range(count)]

    def __enter__(self):
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self.stopping.set()
        for thread in self._threads:
            thread.join()

    def run(self):
        raise NotImplementedError
