"""``celosia run`` on a small model: what it reads, prints and writes, and how it is stopped."""

import json
import os
import signal
import stat
import subprocess
import sys
import time

import pytest

from tests.tiny_models import arrays, tokenizer, write_folder

_RUN = [sys.executable, "-m", "celosia", "run", "--config", "tiny", "--model", "model"]


@pytest.fixture
def folder(tmp_path):
    """A folder with a model, which has 12 positions, and texts to calibrate it with."""
    (tmp_path / "model").mkdir()
    write_folder(tmp_path / "model")
    tokenizer().save(str(tmp_path / "model" / "tokenizer.json"))
    (tmp_path / "calibration.txt").write_bytes(b"\xef\xbb\xbf" + 9 * b"red cat sits\r\ngreen dog runs\r\n\r\n")
    return tmp_path


def run(folder, *arguments, stdin=b"", **environment):
    return subprocess.run([*_RUN, *map(str, arguments)], cwd=folder, input=stdin, capture_output=True, check=False,
                          env={**os.environ, **environment})


def test_a_text_is_a_line_that_ends_at_lf_or_crlf(folder):
    content = "\ufeffred\u2028cat\r\ndog\x0cruns\nblue\x85cat\x1cred\x0bdog\rsits\n \n\u2029\n\ufeffdog".encode()
    expected = ["red\u2028cat", "dog\x0cruns", "blue\x85cat\x1cred\x0bdog\rsits", "\ufeffdog"]
    (folder / "texts.txt").write_bytes(content)
    done = run(folder, "--file", "texts.txt", "--calibration", "calibration.txt", "--json", "file.json")
    assert done.returncode == 0, done.stderr
    done = run(folder, "--calibration", "calibration.txt", "--json", "input.json", stdin=content)
    assert done.returncode == 0, done.stderr
    for name in ("file.json", "input.json"):
        assert json.loads((folder / name).read_text())["texts"] == expected


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "ascii:strict"])
def test_what_a_terminal_can_not_show_stops_nothing(folder, encoding):
    text = "red 漢字 é [/red] :smile:"
    done = run(folder, "--text", text, "--calibration", "calibration.txt", "--json", "run.json",
               "--trace", "trace.json", PYTHONIOENCODING=encoding)
    assert done.returncode == 0, done.stderr
    assert b"red ??" in done.stdout
    assert b"[/red] :smile:" in done.stdout
    assert json.loads((folder / "run.json").read_text())["bit_exact"] is True
    assert json.loads((folder / "trace.json").read_text())["traceEvents"]


def test_a_locale_without_unicode_stops_nothing(folder):
    done = run(folder, "--file", "texts.txt", "--calibration", "calibration.txt", PYTHONUTF8="0", LC_ALL="C",
               PYTHONCOERCECLOCALE="0", stdin=b"")
    assert done.returncode == 2  # the file is not there
    (folder / "texts.txt").write_text("red 漢字\n", encoding="utf-8")
    done = run(folder, "--file", "texts.txt", "--calibration", "calibration.txt", PYTHONUTF8="0", LC_ALL="C",
               PYTHONCOERCECLOCALE="0")
    assert done.returncode == 0, done.stderr
    assert b"red ??" in done.stdout


def test_a_model_is_calibrated_with_texts_of_its_own(folder):
    found = []
    for texts in ("red cat sits\n", "blue\n"):
        (folder / "own.txt").write_text(16 * texts)
        done = run(folder, "--text", "red cat", "--calibration", "own.txt", "--json", "run.json")
        assert done.returncode == 0, done.stderr
        found.append(json.loads((folder / "run.json").read_text())["cosine"])
    assert found[0] != found[1]


@pytest.mark.parametrize(("content", "sentence"), [
    (None, "error: the file 'own.txt' can't be read as text: "),
    (b"\xff\xfe", "error: the file 'own.txt' can't be read as text: "),
    (b"\xef\xbb\xbf \r\n", "error: the file 'own.txt' must have at least one text that is not empty\n"),
])
@pytest.mark.parametrize("command", [
    ["run", "--text", "a"], ["report", "--text", "a", "-o", "page.html"], ["explain", "--tokens", "3"],
    ["listing", "--tokens", "3"]])
def test_calibration_that_is_none_gets_one_sentence(folder, command, content, sentence):
    if content is not None:
        (folder / "own.txt").write_bytes(content)
    done = subprocess.run([sys.executable, "-m", "celosia", *command, "--config", "tiny", "--calibration", "own.txt"],
                          cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith(sentence)
    assert done.stderr.count("\n") == 1
    assert not (folder / "page.html").exists()


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o077, 0o600)])
def test_who_may_read_a_file_follows_the_umask_or_the_file_before(folder, umask, mode):
    (folder / "there.json").write_text("")
    (folder / "there.json").chmod(0o640)
    for name, expected in (("new.json", mode), ("there.json", 0o640)):
        done = subprocess.run([sys.executable, "-m", "celosia", "configs", "--json", name], cwd=folder, umask=umask,
                              capture_output=True, check=False)
        assert done.returncode == 0, done.stderr
        assert stat.S_IMODE((folder / name).stat().st_mode) == expected


def _running(word):
    """The processes whose command line has ``word`` in it."""
    found = []
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{name}/cmdline", "rb") as file, open(f"/proc/{name}/environ", "rb") as environment:
                if word.encode() in file.read() + environment.read():
                    found.append(int(name))
        except OSError:
            pass  # it has ended
    return found


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130), (signal.SIGHUP, 129)])
def test_a_compilation_that_is_stopped_leaves_nothing(folder, number, code):
    cache = folder / "cache"
    process = subprocess.Popen(
        [*_RUN, "--text", "red", "--calibration", "calibration.txt", "--set", "name=stopped"], cwd=folder,
        env={**os.environ, "CELOSIA_CACHE": str(cache)}, stderr=subprocess.PIPE, text=True,
        preexec_fn=lambda: signal.signal(number, signal.SIG_DFL))
    while not list(cache.glob("models/.*/obj/*.gch")) and process.poll() is None:
        time.sleep(0.05)
    process.send_signal(number)
    assert process.communicate(timeout=600)[1].splitlines()[-1] == f"error: stopped by {signal.Signals(number).name}"
    assert process.returncode == code
    assert [path for path in (cache / "models").iterdir() if path.is_dir()] == []
    assert _running(str(cache)) == []


def test_quantising_that_is_stopped_leaves_nothing(folder):
    write_folder(folder / "model", arrays(hidden=256, ffn=1024, layers=24), hidden_size=256, intermediate_size=1024,
                 num_hidden_layers=24)
    cache = folder / "cache"
    process = subprocess.Popen([*_RUN, "--text", "red", "--calibration", "calibration.txt"], cwd=folder,
                               env={**os.environ, "CELOSIA_CACHE": str(cache)}, stderr=subprocess.PIPE, text=True)
    while not (cache / "quantised").exists() and process.poll() is None:
        time.sleep(0.02)
    process.terminate()
    assert process.communicate(timeout=600)[1].splitlines()[-1] == "error: stopped by SIGTERM"
    assert process.returncode == 143
    assert list((cache / "quantised").iterdir()) == []
