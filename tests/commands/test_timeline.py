"""What is seen of a run: the timeline equals the counters, the trace fits its format, the page shows the run."""

import itertools
import json
import re
import shutil
import subprocess
from dataclasses import replace

import jsonschema
import numpy as np
import pytest
from celosia.firmware.model.model import EncoderModel, find_default_model
from celosia.firmware.quantise.synthetic import random_encoder, random_tokens
from celosia.generators.configurations import configuration
from celosia.hdl.isa import Engine
from celosia.hdl.registers import LOSSES
from celosia.report import report_page
from celosia.runner import run_texts
from celosia.session import quantise, simulate
from celosia.timeline import Timeline, trace

#: The trace event format: metadata, complete events and counters.
_SCHEMA = {
    "type": "object",
    "required": ["traceEvents"],
    "properties": {
        "displayTimeUnit": {"enum": ["ms", "ns"]},
        "traceEvents": {"type": "array", "minItems": 1, "items": {
            "type": "object",
            "required": ["ph", "pid", "name"],
            "properties": {"name": {"type": "string"}, "pid": {"type": "integer"}, "tid": {"type": "integer"},
                           "args": {"type": "object"}},
            "oneOf": [
                {"properties": {"ph": {"const": "M"}}, "required": ["args"]},
                {"properties": {"ph": {"const": "X"}, "ts": {"type": "number", "minimum": 0},
                                "dur": {"type": "number", "exclusiveMinimum": 0}}, "required": ["tid", "ts", "dur"]},
                {"properties": {"ph": {"const": "C"}, "ts": {"type": "number", "minimum": 0}, "args": {
                    "additionalProperties": {"type": "number"}, "minProperties": 1}}, "required": ["ts", "args"]},
            ]}},
    },
}


@pytest.fixture(scope="module")
def accelerator():
    return simulate("tiny", observed=True)


@pytest.fixture(scope="module")
def run(accelerator):
    """A batch, and its timeline."""
    accelerator.load(random_encoder(24, 40, 2, layers=2))
    rng = np.random.default_rng(3)
    simulation = accelerator.transport.simulation
    simulation.observe()
    result = accelerator.run([random_tokens(rng, length, 24) for length in (9, 5)])
    timeline = Timeline(simulation.observations, result.program.instructions)
    simulation.observe(False)
    return result, timeline


def test_every_event_was_counted(run):
    result, timeline = run
    config = configuration("tiny")
    steps = {"read_bytes": config.bus_bytes, "write_bytes": config.word_bytes}
    assert {name: count * steps.get(name, 1) for name, count in timeline.totals().items()} == result.counters
    assert timeline.cycles == result.counters["cycles"]


def test_every_cycle_has_one_cause(run):
    result, timeline = run
    counters = result.counters
    assert counters["array_active"] + sum(counters[name] for name in LOSSES) == counters["cycles"]
    for name in LOSSES:
        assert sum(span.end - span.start for span in timeline.losses if span.name == name) == counters[name]


def test_the_instructions_fill_the_time_of_their_engine(run):
    result, timeline = run
    for engine, spans in timeline.engines.items():
        assert len(spans) == sum(1 for i in result.program.instructions if i.engine is engine)
        assert sum(span.end - span.start for span in spans) == result.counters[f"{engine.name.lower()}_busy"]
        assert all(before.end <= after.start for before, after in itertools.pairwise(spans))
        assert all(span.name for span in spans)


def test_use_averages_to_the_counter(run):
    result, timeline = run
    for window in (1, 100, 10**9):
        shares = timeline.use("array_active", window)
        weights = np.minimum(window, timeline.cycles - np.arange(len(shares)) * window)
        assert round(float(shares @ weights)) == result.counters["array_active"]


def test_the_trace_fits_its_format(run):
    _, timeline = run
    made = json.loads(json.dumps(trace([timeline, timeline], {"config": "tiny"})))
    jsonschema.validate(made, _SCHEMA)
    slices = [event for event in made["traceEvents"] if event["ph"] == "X"]
    tracks = {event["tid"]: event["args"]["name"] for event in made["traceEvents"] if event["name"] == "thread_name"}
    for engine in Engine:
        durations = [event["dur"] for event in slices if tracks[event["tid"]] == f"{engine.name.lower()} engine"]
        assert sum(durations) == 2 * timeline.totals()[f"{engine.name.lower()}_busy"]
    lost = sum(event["dur"] for event in slices if tracks[event["tid"]].startswith("array"))
    assert lost == 2 * sum(timeline.totals()[name] for name in LOSSES)
    assert max(event["ts"] + event["dur"] for event in slices) <= 2 * timeline.cycles


def test_nothing_that_ran_is_no_timeline():
    with pytest.raises(ValueError, match="no program ran"):
        Timeline(np.zeros(9, np.uint32), [])


@pytest.fixture(scope="module")
def page(accelerator, tmp_path_factory):
    """The page of a run of a real layer, and what it is about."""
    model = EncoderModel.from_folder(find_default_model())
    encoder = quantise(model)
    one_layer = replace(encoder, layers=encoder.layers[:1])
    report = run_texts(accelerator, model, one_layer, ["A <red> flower & more."], observe=True)
    path = tmp_path_factory.mktemp("page") / "report.html"
    path.write_text(report_page(report, configuration("tiny")))
    return path, report


def _shown(html, identifier):
    return re.search(rf'id="{identifier}">([^<]*)<', html)[1]


def test_the_page_shows_the_run(page):
    path, report = page
    html = path.read_text()
    assert report.bit_exact
    assert _shown(html, "cycles") == f"{report.cycles:,}"
    assert _shown(html, "roofline") == f"{report.roofline_efficiency:.4f}"
    assert "A &lt;red&gt; flower &amp; more." in html
    for name in LOSSES:
        assert f"<td>{name.removeprefix('lost_')}</td><td>{report.counters[name]:,}</td>" in html
    assert f"<td>0</td><td>{report.layers[0].cycles:,}</td>" in html
    assert report.layers[0].cosine > 0.99
    assert not re.findall(r'(?:src|href)="(?!data:|#)[^"]*"|<script|@import', html)  # all that it needs is in it
    assert html.count("<svg") == 3


@pytest.mark.skipif(shutil.which("chromium") is None, reason="needs chromium")
def test_a_browser_loads_the_page_without_complaint(page, tmp_path):
    path, report = page
    done = subprocess.run(
        ["chromium", "--headless=new", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path}",
         "--enable-logging=stderr", "--virtual-time-budget=1000", "--dump-dom", path.as_uri()],
        capture_output=True, text=True, timeout=120, check=True)
    assert _shown(done.stdout, "cycles") == f"{report.cycles:,}"
    assert ":CONSOLE" not in done.stderr


def test_numbers_have_separators_and_do_not_break(page):
    path, _ = page
    html = path.read_text(encoding="utf-8")
    body = re.sub("<svg.*?</svg>", "", html[html.index("<body>"):], flags=re.DOTALL)
    assert not re.findall(r"(?<![\d.,])\d{4,}", body)
    assert not re.findall(r"\d %", body)  # a blank before a percent sign would be a place to break at
    assert "td { white-space: nowrap; }" in html


def test_every_layer_has_a_place_of_its_own_in_the_plots(page):
    path, report = page
    plots = re.findall("<svg.*?</svg>", path.read_text(encoding="utf-8"), flags=re.DOTALL)
    for name in ("run", *(f"layer {row.layer}" for row in report.layers)):
        assert plots[2].count(f">{name}</text>") == 1


def test_what_was_chosen_for_a_model_is_on_the_page_and_in_the_figures(page):
    _, report = page
    noted = replace(report, notes=("The pooling is <mean>.",))
    assert '<p class="note">The pooling is &lt;mean&gt;.</p>' in report_page(noted, configuration("tiny"))
    assert noted.to_json()["notes"] == ["The pooling is <mean>."]


def test_only_a_top_that_shows_itself_is_observed():
    with pytest.raises(ValueError, match="the top must have an output called observed"):
        simulate("tiny").transport.simulation.observe()
