"""One self-contained HTML page about a run: what ran, where the cycles went, and how close the results are."""

import io
from importlib.resources import files
from typing import Any

import numpy as np
from celosia.hdl.config import AcceleratorConfig
from celosia.hdl.isa import Engine
from celosia.hdl.registers import LOSSES
from celosia.runner import RunReport
from jinja2 import Environment, StrictUndefined

__all__ = ["report_page"]

_SAMPLES = 400  # of a curve over time


def _figure(width: float, height: float) -> Any:
    # Not at the top: it takes half a second, which no other command should.
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def _svg(figure: Any) -> str:
    """The figure as an ``<svg>`` element, the same in every run: text as text, no metadata."""
    from matplotlib import rc_context

    text = io.StringIO()
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": "celosia", "font.family": "sans-serif"}):
        figure.savefig(text, format="svg", metadata=dict.fromkeys(("Date", "Creator", "Format", "Type")))
    return text.getvalue()[text.getvalue().index("<svg"):]


def _use_over_time(report: RunReport) -> str:
    """Share of the cycles in which the array, each engine and the read bus worked, along the run."""
    window = max(1, report.cycles // _SAMPLES)
    names = {"array_active": "array", **{f"{engine.name.lower()}_busy": engine.name.lower() for engine in Engine},
             "read_bytes": "read bus"}
    figure = _figure(10, 0.9 * len(names) + 0.6)
    rows = figure.subplots(len(names), sharex=True)
    for axes, (name, label) in zip(rows, names.items(), strict=True):
        shares = np.concatenate([timeline.use(name, window) for timeline in report.timelines])
        axes.fill_between(np.arange(len(shares)) * window, 100 * shares, step="post", linewidth=0)
        axes.set_ylim(0, 100)
        axes.set_ylabel(label, rotation=0, ha="right", va="center")
        axes.margins(x=0)
    rows[-1].set_xlabel("cycle")
    rows[-1].xaxis.set_major_formatter("{x:,.0f}")
    figure.suptitle("use, in percent")
    return _svg(figure)


def _points(report: RunReport) -> list[tuple[str, float, float]]:
    """Of the run and of each layer: name, products a byte, products a cycle."""
    counted = [("run", report.counters["cycles"], report.counters["read_bytes"] + report.counters["write_bytes"],
                report.macs)]
    counted += [(f"layer {row.layer}", row.cycles, row.read_bytes + row.write_bytes, report.macs // len(report.layers))
                for row in report.layers]
    return [(name, macs / moved, macs / cycles) for name, cycles, moved, macs in counted]


def _roofline_plot(report: RunReport, config: AcceleratorConfig) -> str:
    """Products a cycle over products a byte, of the run, under what array and bus allow."""
    figure = _figure(5, 3.6)
    axes = figure.subplots()
    _, intensity, reached = _points(report)[0]
    ends = (intensity, config.macs_per_cycle / config.bus_bytes)
    reach = np.geomspace(min(ends) / 4, 4 * max(ends), 64)
    axes.plot(reach, np.minimum(config.macs_per_cycle, reach * config.bus_bytes), "k-", linewidth=1, label="roofline")
    axes.plot(intensity, reached, "o", label="run")
    axes.set_xscale("log", base=2)
    axes.set_yscale("log", base=2)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter("{x:,g}")
    axes.set_xlabel("multiply-accumulates per byte moved")
    axes.set_ylabel("multiply-accumulates per cycle")
    axes.legend(fontsize="small")
    return _svg(figure)


def _layers_plot(report: RunReport, config: AcceleratorConfig) -> str:
    """Products a cycle of the run and of each layer, a row each, and what array and bus allow it: as points under the
    roofline they would lie on each other."""
    points = _points(report)
    figure = _figure(5, max(3.6, 0.8 + 0.28 * len(points)))
    axes = figure.subplots()
    rows = np.arange(len(points))
    allowed = [min(config.macs_per_cycle, intensity * config.bus_bytes) for _, intensity, _ in points]
    axes.barh(rows, [reached for *_, reached in points], height=0.6, label="reached")
    axes.plot(allowed, rows, "k|", markersize=14, label="roofline")
    axes.set_yticks(rows, [name for name, *_ in points])
    axes.invert_yaxis()
    axes.set_xlim(0, 1.08 * max(allowed))
    axes.set_xlabel("multiply-accumulates per cycle")
    figure.legend(fontsize="small", loc="outside upper right", ncols=2)
    return _svg(figure)


def report_page(report: RunReport, config: AcceleratorConfig) -> str:
    """The page of a run that was made with ``observe``."""
    if not report.timelines:
        raise ValueError("the run must have been observed, for a page about it")
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    template = environment.from_string((files("celosia") / "report.html").read_text(encoding="utf-8"))
    losses = [(name.removeprefix("lost_"), doc, report.counters[name]) for name, doc in LOSSES.items()]
    return template.render(report=report, config=config, losses=losses, use=_use_over_time(report),
                           roofline=_roofline_plot(report, config), layers=_layers_plot(report, config)) + "\n"
