"""Size of a report, time to its first view, nodes and memory, of two versions of this package on the same run.

python benchmarks/report_size.py --side before=OLD/bin/python --side after=NEW/bin/python [--episodes 200 2000 10000]

Each side is a Python in which a version is installed (name=python); without --side it is the one that runs this. The
run is drawn faces, played at random in groups of four; past --played episodes, records are used again under other
samples' names, so that their pictures are others'. "written" and "cpu" are seconds of processor time: of the writer,
and of the page's process until it is loaded and at rest. First view, loaded and page turn are wall time, the quickest
of some tries. Needs headless Chromium and its driver, and selenium.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from importlib import metadata
from pathlib import Path
from typing import Any

from machine import machine

WRITE = """
import json, resource, sys, time
from actfer_env.evaluation import read_run, write_report
run = read_run(sys.argv[1])
start = time.process_time()
write_report(sys.argv[1], run)
print(json.dumps([time.process_time() - start, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024]))
"""
SWITCHES = ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars",
            "--window-size=1280,900", "--disable-background-networking", "--disable-component-update",
            "--disable-extensions")  # fmt: skip
PAINTED = """
const done = arguments[0];
const paint = performance.getEntriesByName("first-contentful-paint")[0];
if (paint) done(paint.startTime);
else new PerformanceObserver((list) => done(list.getEntries()[0].startTime)).observe({type: "paint", buffered: true});
"""
NEXT = """
const button = document.querySelector(".pager button:nth-of-type(3)");
if (!button || button.disabled) return false;
button.click();
return true;
"""
QUIET = "return document.getElementById('groups')?.ariaBusy !== 'true'"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--side", action="append", metavar="NAME=PYTHON", help="a version; may be given again")
    parser.add_argument("--episodes", type=int, nargs="+", default=[200, 2000, 10000])
    parser.add_argument("--played", type=int, default=800, help="episodes that are really played")
    parser.add_argument("--repeats", type=int, default=3, help="times that a page is opened; the quickest counts")
    parser.add_argument("--pages", type=int, default=40, help="pages that are turned, where there are any")
    parser.add_argument("--limit", type=int, default=600, help="seconds after which a page counts as not loaded")
    parser.add_argument("--work", type=Path, help="folder that keeps runs and reports")
    args = parser.parse_args()
    sides = dict(side.split("=", 1) for side in args.side or [f"this={sys.executable}"])
    work = args.work or Path(tempfile.mkdtemp())
    work.mkdir(parents=True, exist_ok=True)
    for number in args.episodes:
        make_run(work / f"run{number}", number, args.played)
    print(made_on())
    print(f"{'episodes':>8} {'side':8} {'written':>8} {'peak':>7} {'files':>6} {'size':>9} {'page':>9} "
          f"{'first view':>11} {'loaded':>7} {'cpu':>7} {'nodes':>8} {'renderer':>9} {'after':>9} "
          f"{'page turn':>10}")  # fmt: skip
    for number in args.episodes:
        for name, python in sides.items():
            folder = work / f"run{number}-{name}"
            if not (folder / "report.html").exists():
                shutil.copytree(work / f"run{number}", folder, dirs_exist_ok=True)
                done = subprocess.run(
                    [python, "-c", WRITE, folder], cwd=work, capture_output=True, text=True, check=True
                )
                (folder / "written.json").write_text(done.stdout.splitlines()[-1])
            seconds, peak = json.loads((folder / "written.json").read_text())
            files = [folder / "report.html", *(folder / "report_files").glob("*")]
            found = [open_page(files[0], args.pages, args.limit) for _ in range(args.repeats)]
            best = {key: min(one[key] for one in found) for key in found[0]}
            print(f"{number:8} {name:8} {seconds:6.1f} s {peak:4.0f} MB {len(files):6} "
                  f"{sum(file.stat().st_size for file in files) / 1e6:6.1f} MB {files[0].stat().st_size / 1e6:6.2f} MB "
                  f"{best['painted']:8.0f} ms {best['loaded']:5.1f} s {best['cpu']:5.2f} s {best['nodes']:8.0f} "
                  f"{best['memory']:6.0f} MB {best['memory_after']:6.0f} MB "
                  f"{best['turn'] * 1000:7.0f} ms", flush=True)  # fmt: skip


def make_run(folder: Path, number: int, played: int) -> None:
    """Write a run of so many episodes, in groups of four."""
    from actfer_env.data import load_dataset
    from actfer_env.evaluation import read_run, write_run
    from actfer_env.evaluation.play import RolloutConfig, play
    from actfer_env.evaluation.run import finished_run

    if (folder / "run.json").exists():
        return
    data = load_dataset("synthetic", split="test", n=number // 4)
    first = folder.with_name(f"played{played}")
    if not (first / "run.json").exists():
        config = RolloutConfig(agents=("random",), group_size=4, number=played // 4, seed=0)
        write_run(first, play(load_dataset("synthetic", split="test", n=played // 4), config))
    run, rollouts = read_run(first), []
    for i in range(number):
        other, name = run.rollouts[i % len(run.rollouts)], data[i // 4].id
        text = f"<think>I look at the face, then where it moves. {i}</think>"
        meta = {**other.meta, "looked": True}
        rollouts.append(replace(other, sample_id=name, group_id=name, texts=(text,) * other.turns, meta=meta))
    write_run(folder, finished_run(rollouts, data.arguments, run.settings, run.reward))


def open_page(path: Path, pages: int, limit: int) -> dict[str, float]:
    """Open a page in a new browser, and turn its pages; memory is that of its process, after a garbage collection."""
    from selenium import webdriver
    from selenium.common.exceptions import TimeoutException

    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium")
    for switch in SWITCHES:
        options.add_argument(switch)
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(shutil.which("chromedriver")))
    driver.command_executor.client_config.timeout = 900
    driver.set_page_load_timeout(limit)
    driver.set_script_timeout(limit)
    try:
        driver.get("about:blank")
        start = time.perf_counter()
        try:
            driver.get(path.as_uri())
        except TimeoutException:
            names = ("painted", "loaded", "nodes", "memory", "cpu", "memory_after", "turn")
            return dict.fromkeys(names, float("nan")) | {"loaded": float("inf")}
        loaded = time.perf_counter() - start
        painted = driver.execute_async_script(PAINTED)
        before = state(driver)
        turns = []
        for _ in range(pages):
            start = time.perf_counter()
            if not driver.execute_script(NEXT):
                break
            while not driver.execute_script(QUIET):
                time.sleep(0.002)
            turns.append(time.perf_counter() - start)
            driver.execute_script("window.scrollBy(0, 3000)")
        after = state(driver)
    finally:
        driver.quit()
    return {
        "painted": painted, "loaded": loaded, "nodes": before[0], "memory": before[1], "cpu": before[2],
        "memory_after": after[1], "turn": statistics.median(turns) if turns else float("nan"),
    }  # fmt: skip


def state(driver: Any) -> tuple[float, float, float]:
    """Return the document's nodes, the memory of its process in MB (resident, shared pages by their share), and the
    process's seconds of processor time."""
    driver.execute_cdp_cmd("HeapProfiler.collectGarbage", {})
    nodes = driver.execute_script("return document.querySelectorAll('*').length")
    parents, renderers = {}, []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            parents[entry.name] = (entry / "stat").read_text().rsplit(")", 1)[1].split()[1]
            if b"--type=renderer" in (entry / "cmdline").read_bytes():
                renderers.append(entry)
        except OSError:
            continue
    sizes, seconds = [], []
    for entry in renderers:
        above = entry.name
        while above in parents and above != str(driver.service.process.pid):
            above = parents[above]
        if above in parents:
            lines = (entry / "smaps_rollup").read_text().splitlines()
            sizes.append(next(int(line.split()[1]) for line in lines if line.startswith("Pss:")) / 1024)
            ticks = (entry / "stat").read_text().rsplit(")", 1)[1].split()[11:13]
            seconds.append(sum(map(int, ticks)) / os.sysconf("SC_CLK_TCK"))
    return float(nodes), max(sizes, default=float("nan")), max(seconds, default=float("nan"))


def made_on() -> str:
    """Return a line with the machine, versions and the browser."""
    browser = subprocess.run([shutil.which("chromium"), "--version"], capture_output=True, text=True, check=True)
    versions = ", ".join(f"{name} {metadata.version(name)}" for name in ("actfer-env", "jinja2", "pillow", "selenium"))
    return f"{machine()}, Python {platform.python_version()}, {versions}, {browser.stdout.strip()}"


if __name__ == "__main__":
    main()
