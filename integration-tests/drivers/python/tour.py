"""What the Python programs share: sections with a heading, and errors as an application sees them."""

import os
import sys
import threading

HOST = os.environ["PGHOST"]
PORT = int(os.environ["PGPORT"])
USER = os.environ["PGUSER"]
PASSWORD = os.environ["PGPASSWORD"]
DATABASE = os.environ["PGDATABASE"]

SECTIONS = []


def section(function):
    SECTIONS.append(function)
    return function


def show(*values):
    print("  ", *values, flush=True)


def run():
    only = os.environ.get("ONLY", "")
    for function in SECTIONS:
        if only in function.__name__:
            print("==", function.__name__, flush=True)
            try:
                function()
            except Exception as error:
                line = error.__traceback__.tb_next.tb_lineno
                show("!! ended at line", line, type(error).__name__, error)


def in_threads(count, work):
    """Runs `work(number)` on so many threads at once; the results in the order of their numbers."""
    results = [None] * count

    def run(number):
        try:
            results[number] = work(number)
        except Exception as error:  # what the comparison is about
            results[number] = f"{type(error).__name__}: {error}"

    threads = [threading.Thread(target=run, args=(n,)) for n in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
        if thread.is_alive():
            print("!! a thread hangs", flush=True)
            sys.exit(3)
    return results
