"""``python -m tools.paper_tables run networks --scale small``, and ``show`` for what was run.

Without names all tables are meant. A run that is there is not run again, and one that was cut
short goes on from its checkpoint. Scale ``small`` is for two cores; ``full`` is the paper's own
condition and needs a GPU.
"""

from __future__ import annotations

import argparse
import multiprocessing
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import replace

from nervcodec.errors import UsageError
from tools.paper_tables.experiments import FORMAT, SCALES, Scale, Variant
from tools.paper_tables.markdown import markdown
from tools.paper_tables.results import result_path, run
from tools.paper_tables.tables import TABLES

Job = tuple[str, Variant, int]


def jobs(
    scale: Scale, names: Sequence[str], clips: Sequence[str], seeds: Sequence[int]
) -> list[Job]:
    """What is still to be run, a seed after the other, each run once."""

    def wanted() -> Iterator[Job]:
        for seed in seeds:
            for name in names:
                for variant in TABLES[name].rows:
                    for clip in clips:
                        yield clip, variant, seed

    found: dict[tuple[str, str, int], Job] = {}
    for job in wanted():
        clip, variant, seed = job
        if not result_path(scale, clip, variant, seed).exists():
            found.setdefault((clip, variant.name, seed), job)
    return list(found.values())


def present(scale: Scale, clips: Sequence[str]) -> list[str]:
    """The clips that are on this machine; says which are not."""
    result = []
    for name in clips or [clip.name for clip, _ in scale.clips]:
        try:
            scale.clip(name)[0].path()
        except UsageError as exc:
            print(f"left out: {exc}", flush=True)
            continue
        result.append(name)
    return result


def run_all(scale: Scale, todo: Sequence[Job], processes: int, threads: int | None) -> None:
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(processes, mp_context=context) as pool:
        waiting = [pool.submit(run, scale, *job, threads) for job in todo]
        for number, done in enumerate(as_completed(waiting), 1):
            print(f"{number}/{len(todo)} {done.result().name}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("action", choices=("run", "show", "list"))
    parser.add_argument("tables", nargs="*", metavar="TABLE", help=" ".join(TABLES))
    parser.add_argument("--scale", choices=tuple(SCALES), default="small")
    parser.add_argument("--clip", action="append", default=[], help="one clip only; repeatable")
    parser.add_argument("--seeds", default="0,1", help="default 0,1")
    parser.add_argument("--jobs", type=int, default=1, help="runs at a time")
    parser.add_argument("--threads", type=int, help="of each run; default all")
    parser.add_argument("--format", default=FORMAT, help="show results of an earlier file format")
    arguments = parser.parse_intermixed_args()
    if arguments.action == "run" and arguments.format != FORMAT:
        parser.error(f"files are made in format {FORMAT} only")
    scale = replace(SCALES[arguments.scale], format=arguments.format)
    names = arguments.tables or list(TABLES)
    if unknown := set(names) - TABLES.keys():
        parser.error(f"unknown tables: {' '.join(sorted(unknown))}")
    seeds = [int(seed) for seed in arguments.seeds.split(",")]
    if arguments.action == "show":
        for name in names:
            for clip in arguments.clip or [clip.name for clip, _ in scale.clips]:
                print(markdown(TABLES[name], scale, clip, seeds))
        return
    todo = jobs(scale, names, present(scale, arguments.clip), seeds)
    for clip, variant, seed in todo:
        print(f"to run: {clip} {variant.name} seed {seed}", flush=True)
    if arguments.action == "run":
        run_all(scale, todo, arguments.jobs, arguments.threads)


if __name__ == "__main__":
    main()
