# SPDX-License-Identifier: Apache-2.0
"""What is printed: sections as they are measured, the table of figures and targets at the end."""

import os
import statistics


class NotMeasured(Exception):
    """A figure or a contender that cannot be had here; the text says why."""


def three_digits(value):
    return f"{value:.2f}" if value < 10 else f"{value:.1f}" if value < 100 else f"{value:.0f}"


def milliseconds(seconds):
    return three_digits(seconds * 1e3)


def microseconds(seconds):
    value = seconds * 1e6
    return three_digits(value) if value >= 1 else f"{value:.3f}"


def duration(seconds):
    """With its unit."""
    return f"{milliseconds(seconds)} ms" if seconds >= 1e-3 else f"{microseconds(seconds)} us"


def table(header, rows):
    """A Markdown table; every column but the first is aligned to the right."""
    lines = [header, ["---"] + ["---:"] * (len(header) - 1), *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines)


class Report:
    """Prints to standard output; keeps that for --save in `text`, and everything measured for --json in `data`."""

    def __init__(self, machine):
        self.data = {"machine": machine, "sections": {}, "figures": []}
        self.text = ""
        self.timed = {}  # by section: title and contenders, for charts
        self._print("# Figures\n\n" + "\n".join(f"- {key}: {value}" for key, value in machine.items()))

    def _print(self, text):
        self.text += text + "\n\n"
        print(text + "\n", flush=True)

    def timing(self, name, title, text, contenders, data):
        """A section with contenders of which a chart can be drawn."""
        self.timed[name] = (title, contenders)
        self.section(name, title, text, data)

    def compare(self, saved, path):
        """Medians beside those of an earlier run of --json or --save."""
        rows = []
        for name, (_, contenders) in self.timed.items():
            before = saved.get("sections", {}).get(name, {})
            for contender in contenders:
                old = before.get(contender.name, {}).get("wall")
                if old and contender.wall:
                    then = statistics.median(old)
                    rows.append([name, contender.name, duration(then), duration(contender.median()),
                                 f"{contender.median() / then:.2f}"])
        machine = saved.get("machine", {})
        text = f"`{path.name}`: {machine.get('date', 'no date')}, {machine.get('processor', 'unknown machine')}"
        self._print("## Compared with a saved run\n\n" + text + "\n\n" +
                    (table(["section", "contender", "then", "now", "now by then"], rows) if rows
                     else "Nothing was measured in both."))

    def section(self, name, title, text, data):
        self.data["sections"][name] = data
        self._print(f"## {title}\n\n{text}")

    def figure(self, name, value, limit, unit="", at_least=False, note=""):
        """One line of the table at the end; value None is 'not measured', and note says why."""
        met = None if value is None else (value >= limit if at_least else value <= limit)
        self.data["figures"].append({"name": name, "measured": value, "unit": unit, "note": note, "met": met,
                                     "target": limit, "bound": "at least" if at_least else "at most"})

    def not_measured(self, name, reason):
        self.data["sections"][name] = {"not measured": str(reason)}
        self._print(f"## {name.capitalize()}\n\nNot measured: {reason}")

    def measured_anything(self):
        return any("not measured" not in section for section in self.data["sections"].values())

    def finish(self):
        rows = []
        for figure in self.data["figures"]:
            value = figure["measured"]
            unit = figure["unit"]
            number = value if isinstance(value, int) or value is None else f"{value:.2f}"
            text = "not measured" if value is None else f"{number}{unit}"
            if figure["note"]:
                text += f" ({figure['note']})"
            met = {None: "-", True: "yes", False: "**no**"}[figure["met"]]
            rows.append([figure["name"], text, f"{figure['bound']} {figure['target']}{unit}", met])
        load = " ".join(f"{value:.1f}" for value in os.getloadavg())
        self.data["machine"]["load at the end"] = load
        if rows:
            self._print("## Figures and targets\n\n" + table(["figure", "measured", "target", "met"], rows))
        self._print(f"Load at the end (1, 5 and 15 minutes): {load}")
