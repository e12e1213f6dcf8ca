"""Draws the series of a growth result as SVG files: `python plot.py RESULT.json FOLDER`. Needs matplotlib."""

import json
import pathlib
import sys

import matplotlib

matplotlib.use("svg")
# The same input gives the same file.
matplotlib.rcParams["svg.hashsalt"] = "aktis"

import matplotlib.pyplot as plt


def draw(name, table, titles, path):
    figure, axes = plt.subplots(figsize=(7, 4))
    for part, seconds in table["parts"].items():
        style = "--" if part in table.get("comparison", ()) else "-"
        axes.plot(table["n"], [1e6 * value for value in seconds], style, marker="o", markersize=3, label=part)
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_title(titles["title"])
    axes.set_xlabel(titles["n"])
    axes.set_ylabel(titles["item"])
    axes.grid(visible=True, which="major", alpha=0.3)
    axes.legend()
    figure.tight_layout()
    figure.savefig(path / f"{name}.svg", metadata={"Date": None})
    plt.close(figure)


def main():
    result, folder = json.loads(pathlib.Path(sys.argv[1]).read_text()), pathlib.Path(sys.argv[2])
    folder.mkdir(parents=True, exist_ok=True)
    for name, table in result["series"].items():
        draw(name, table, result["titles"][name], folder)


if __name__ == "__main__":
    main()
