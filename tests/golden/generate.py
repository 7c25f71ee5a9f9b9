#!/usr/bin/env python3
"""Makes the golden corpus, or compares one with another release of Prefect. See README.md.

    generate.py                          writes corpus/<installed release>/
    generate.py --compare RELEASE        runs the inputs of corpus/RELEASE/ on what is installed, and prints what differs
"""

import argparse
import collections
import json
import os
import pathlib
import sys
import tempfile

HERE = pathlib.Path(__file__).parent
KINDS = ["process", "docker", "kubernetes"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--compare", metavar="RELEASE", help="compare instead of writing")
    parser.add_argument("--all", action="store_true", help="with --compare: print every case, not the first of each difference")
    arguments = parser.parse_args()
    _start_clean()
    if arguments.compare:
        compare(HERE / "corpus" / arguments.compare, arguments.all)
    else:
        write()


def write() -> None:
    """Writes the corpus of the installed release."""
    import cases
    import reference

    release = reference.release()
    folder = HERE / "corpus" / release["prefect"]
    folder.mkdir(parents=True, exist_ok=True)
    templates = reference.default_templates()
    common = {"release": release, "templates": templates, "given": cases.COMMON}
    plain = {kind: reference.resolve(kind, complete(common, {"template": kind}))["job"] for kind in KINDS}
    common["plain"] = plain
    (folder / "common.json").write_text(json.dumps(common, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    for kind in KINDS:
        names, errors, lines = set(), 0, []
        for name, given in cases.cases(kind, templates):
            assert name not in names, f"two cases are called {name}"
            names.add(name)
            outcome = reference.resolve(kind, complete(common, given))
            errors += "error" in outcome
            if "job" in outcome:
                job = outcome["job"]
                outcome = {"job": beyond(plain[kind], job)}
                if lacks := lacking(plain[kind], job):
                    outcome["lacks"] = lacks
                assert canonical(rebuilt(plain[kind], outcome)) == canonical(job), name
            # The order of what is given is a part of it: variables of a container may name earlier ones.
            case = {"name": name, "given": given, **json.loads(canonical(outcome))}
            lines.append(json.dumps(case, ensure_ascii=False, separators=(",", ":")))
        (folder / f"{kind}.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
        print(f"{kind}: {len(lines)} cases, {errors} of them errors")


def compare(folder: pathlib.Path, show_all: bool) -> None:
    """Prints in which cases the installed release differs from the stored one."""
    import reference

    common = json.loads((folder / "common.json").read_text(encoding="utf-8"))
    before, after = common["release"], reference.release()
    print(f"stored:    {before}\ninstalled: {after}")
    templates = reference.default_templates()
    for name, template in common["templates"].items():
        for place, old, new in differences(template, templates[name]):
            print(f"template {name}{place}: {old} -> {new}")
    for kind in KINDS:
        seen, changed, total = collections.Counter(), 0, 0
        # Not `splitlines`: some cases have line separators of Unicode in them.
        for line in (folder / f"{kind}.jsonl").read_text(encoding="utf-8").strip("\n").split("\n"):
            case = json.loads(line)
            total += 1
            stored = {"job": rebuilt(common["plain"][kind], case)} if "job" in case else {"error": case["error"]}
            fresh = json.loads(canonical(reference.resolve(kind, complete(common, case["given"]))))
            found = list(differences(masked(stored, before), masked(fresh, after)))
            changed += bool(found)
            for place, old, new in found:
                what = (place, old if len(old) < 40 else "…", new if len(new) < 40 else "…")
                seen[what] += 1
                if show_all or seen[what] == 1:
                    print(f"{kind} {case['name']}{place}: {old} -> {new}")
        print(f"{kind}: {changed} of {total} cases differ")
        for (place, old, new), count in seen.most_common(20):
            print(f"  {count:5} x {place}: {old} -> {new}")


def complete(common: dict, given: dict) -> dict:
    """A case with what it leaves out. Each run gets its own copy, because the reference changes what it is given."""
    whole = json.loads(json.dumps({**common["given"], **given}))
    if isinstance(whole["template"], str):
        whole["template"] = json.loads(json.dumps(common["templates"][whole["template"]]))
    for which in ("deployment", "flow_run"):
        if whole[which] is not None:
            whole[which]["job_variables"] = whole.pop(f"{which}_variables")
    return whole


def beyond(plain: dict, job: dict) -> dict:
    """What a job has that the plain one has not: only that is stored."""
    found = {}
    for key, value in job.items():
        if key not in plain:
            found[key] = value
        elif isinstance(value, dict) and isinstance(plain[key], dict):
            if inner := beyond(plain[key], value):
                found[key] = inner
        elif canonical(value) != canonical(plain[key]):
            found[key] = value
    return found


def lacking(plain: dict, job: dict) -> list[list[str]]:
    """The paths that the plain job has and a job has not."""
    found = []
    for key, value in plain.items():
        if key not in job:
            found.append([key])
        elif isinstance(value, dict) and isinstance(job[key], dict):
            found += [[key, *path] for path in lacking(value, job[key])]
    return found


def rebuilt(plain: dict, stored: dict) -> dict:
    """The job again, from what was stored of it."""

    def over(below, above):
        if not isinstance(below, dict) or not isinstance(above, dict):
            return above
        return below | {key: over(below[key], value) if key in below else value for key, value in above.items()}

    job = json.loads(json.dumps(over(plain, stored["job"])))
    for *path, last in stored.get("lacks", []):
        inner = job
        for key in path:
            inner = inner[key]
        del inner[last]
    return job


def canonical(value) -> str:
    return json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"))


def masked(value, release: dict):
    """The same without what differs between any two releases."""
    text = canonical(value)
    for name in ("default_image", "prefect"):
        text = text.replace(release[name], f"<{name}>")
    return json.loads(text)


def differences(old, new, place=""):
    """Every place where two values differ, with both as text."""
    if isinstance(old, dict) and isinstance(new, dict):
        for key in sorted({*old, *new}):
            here = f"{place}.{key}"
            if key not in old or key not in new:
                yield here, _short(old, key), _short(new, key)
            else:
                yield from differences(old[key], new[key], here)
    elif isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        for index, (left, right) in enumerate(zip(old, new)):
            yield from differences(left, right, f"{place}[{index}]")
    elif canonical(old) != canonical(new):
        yield place, _cut(canonical(old)), _cut(canonical(new))


def _short(container: dict, key: str) -> str:
    return _cut(canonical(container[key])) if key in container else "absent"


def _cut(text: str) -> str:
    return text if len(text) <= 160 else text[:157] + "…"


def _start_clean() -> None:
    """Runs again with nothing of this person's settings, and with sets in the same order each time."""
    if os.environ.get("PYTHONHASHSEED") != "0":
        clean = {key: value for key, value in os.environ.items() if not key.startswith("PREFECT_")}
        with tempfile.TemporaryDirectory() as home:
            clean |= {"PYTHONHASHSEED": "0", "PREFECT_HOME": home, "PREFECT_LOGGING_LEVEL": "CRITICAL"}
            sys.stdout.flush()
            sys.exit(os.spawnve(os.P_WAIT, sys.executable, [sys.executable, *sys.argv], clean))


if __name__ == "__main__":
    main()
