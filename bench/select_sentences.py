"""Select the sentences in ``firmware/data`` from the texts that ``firmware/data/ORIGIN.md`` names.

    python bench/select_sentences.py ADDRESSES MOBY_DICK JARGON OPTICKS

Each argument is a text file, or a folder of them. The choice depends on nothing but the texts: of each source
and each class of length, the sentences whose SHA-256 comes first. Calibration and evaluation are disjoint.
"""

import hashlib
import re
import sys
from pathlib import Path

from celosia.firmware.model.model import EncoderModel, find_default_model

DATA = Path(__file__).parent.parent / "firmware" / "data"
CALIBRATION, EVALUATION = 196, 299
CLASSES = [range(start, start + 7) for start in range(5, 61, 7)]  # 5 to 60 tokens, without [CLS] and [SEP]

ABBREVIATION = re.compile(r"\b(Mr|Mrs|Dr|St|Messrs|Jr|Sr|No|vs|etc|esp|usu|poss|abbrev|syn|obs|Fig|Prop|"
                          r"Exper|Obs|Prob|Qu|Lect|Art|Vol|Sec|Sir|e\.g|i\.e|U\.S|[A-Z]|[IVXLC]+|[0-9]+)\.$")
PLAIN = re.compile(r"[A-Z][A-Za-z0-9 ,;:'’\-$%]+[.!?]")
SKIP = re.compile(r"\b(nigger|negro|savage|cannibal|jew|suck|shit|fuck|bitch|whore|rape|terroris|kill|murder|"
                  r"applause|laughter)", re.IGNORECASE)


def read(source: Path) -> str:
    """The text of a file, or of a folder's ``.txt`` files in the order of their names."""
    files = sorted(source.glob("*.txt")) if source.is_dir() else [source]
    return "\n\n".join(file.read_text(encoding="utf-8", errors="replace") for file in files)


def sentences(text: str) -> list[str]:
    """Plain sentences: letters, figures and simple punctuation, from a capital to a full stop."""
    found = []
    for paragraph in re.split(r"\n\s*\n", text.replace("\r", "").replace("_", "").replace("--", " - ")):
        joined = " ".join(paragraph.split())
        pieces, start = [], 0
        for match in re.finditer(r"[.!?](?= [A-Z])", joined):
            if not ABBREVIATION.search(joined[start : match.end()]):
                pieces.append(joined[start : match.end()])
                start = match.end() + 1
        pieces.append(joined[start:])
        found += [piece for piece in pieces if PLAIN.fullmatch(piece) and " " in piece
                  and not ABBREVIATION.search(piece) and not SKIP.search(piece)
                  and piece.upper() != piece and not re.search(r"[a-z][A-Z]|\b[A-Z]{4,}\b| -[a-z]|:$", piece)]
    return sorted(set(found))


def main(sources: list[Path]) -> None:
    """Write ``calibration.txt`` and ``evaluation.txt``."""
    model = EncoderModel.from_folder(find_default_model())
    total = CALIBRATION + EVALUATION
    chosen: list[str] = []
    queues = []
    for source in sources:
        by_hash = sorted(sentences(read(source)), key=lambda s: hashlib.sha256(s.encode()).hexdigest())
        classes: list[list[str]] = [[] for _ in CLASSES]
        for sentence in by_hash[:5000]:
            length = len(model.tokenizer.encode(sentence, add_special_tokens=False).ids)  # type: ignore[union-attr]
            for members, lengths in zip(classes, CLASSES, strict=True):
                if length in lengths:
                    members.append(sentence)
        queues.append(classes)
    rank = 0
    while len(chosen) < total:
        for classes in queues:
            chosen += [members[rank] for members in classes if rank < len(members)]
        rank += 1
    chosen = sorted(chosen[:total], key=lambda s: hashlib.sha256(f"split {s}".encode()).hexdigest())
    for name, part in (("calibration", chosen[:CALIBRATION]), ("evaluation", chosen[CALIBRATION:])):
        (DATA / f"{name}.txt").write_text("".join(f"{sentence}\n" for sentence in part), encoding="utf-8")


if __name__ == "__main__":
    if len(sys.argv) != 5:
        sys.exit(__doc__)
    main([Path(argument) for argument in sys.argv[1:]])
