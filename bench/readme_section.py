# SPDX-FileCopyrightText: The spla authors
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""A section of README, between two comments, made out of one file of results: what the scripts of such sections share."""
import argparse
import pathlib
import sys


def keep(description, begin, end, figures):
    """Command line of a section's script: figures(path) is its text, which links its file as [measurements](...)."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("results", type=pathlib.Path, nargs="?", help="default: the file that README names")
    parser.add_argument("--check", action="store_true", help="change nothing; fail where README differs")
    given = parser.parse_args()
    root = pathlib.Path(__file__).parent.parent
    readme = root / "README.md"
    old = readme.read_text(encoding="utf-8")
    before, rest = old.split(begin)
    held, after = rest.split(end)
    path = given.results.resolve() if given.results else root / held.split("[measurements](")[1].split(")")[0]
    new = before + begin + figures(path) + end + after
    if not given.check:
        readme.write_text(new, encoding="utf-8")
    elif new != old:
        raise SystemExit(f"README.md has other figures than {path.name}: {pathlib.Path(sys.argv[0]).name} writes them")
