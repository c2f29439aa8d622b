"""How names and numbers are put, so that every view says the same thing."""

from collections.abc import Sequence

from unrelearn.report.records import Quality, Record, Row, attack_unit, number, takes_steps

DASH = "–"  # a measurement that was not made
BROKE = "attack broke the model"

# As their papers write them; anything else is shown under the name of its yaml.
DISPLAY = {
    "given": "the unknown method",
    "dimum": "DiMUM",
    "dimra": "DiMRA",
    "salun": "SalUn",
    "erasediff": "EraseDiff",
    "dimra_relative": "DiMRA, relative steps",
    "erasediff_paper": "EraseDiff (paper)",
    "erasediff_released": "EraseDiff (released)",
    "esd": "ESD",
    "siss": "SISS",
    "munba": "MUNBa",
    "scissorhands": "Scissorhands",
    "sfron": "SFR-on",
    "finetune": "fine-tuning",
    "few_shot": "few-shot relearning",
    "lora": "LoRA",
    "prune": "pruning",
    "quantize": "quantisation",
    "neggrad_plus": "NegGrad+",
    "scrub": "SCRUB",
    "ssd": "SSD",
    "l1_sparse": "l1-sparse",
    "uce": "UCE",
    "forget_me_not": "Forget-Me-Not",
    "receler": "Receler",
    "adv_unlearn": "AdvUnlearn",
    "spm": "SPM",
    "esd_attribute": "ESD (attribute)",
    "manif_smc": "ManiF-SMC",
}


def display_name(name: str) -> str:
    """``dimum`` -> ``DiMUM``, ``dimra_aux`` -> ``DiMRA aux``."""
    return DISPLAY.get(name) or " ".join(DISPLAY.get(word, word) for word in name.split("_"))


def labelled(name: str, settings: str) -> str:
    """``DiMUM (learning_rate=0.001)``: a method or attack with what sets it apart from another."""
    return display_name(name) + (f" ({settings})" if settings else "")


def sentence(text: str) -> str:
    """``row swap took ...`` -> ``Row swap took ...``."""
    return text[:1].upper() + text[1:]


def attacked_by(attack: str) -> str:
    return "no attack" if attack == "none" else f"attacked by {display_name(attack)}"


# ---- of a record ---------------------------------------------------------------------------------


def protocol_name(record: Record) -> str:
    """``fast``, ``fast (sampler.num_inference_steps=20)``; older records do not say."""
    return record.get("protocol") or "not recorded"


def class_name(record: Record, index: int) -> str:
    names = record.get("class_names") or []
    return drawable(str(names[index])) if 0 <= index < len(names) else str(index)


def drawable(text: str) -> str:
    """Bytes of a file name that are no UTF-8 become the sign for that."""
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def forgotten(record: Record) -> str:
    """``class 7``, ``class airplane``, ``classes 3 and 7``, ``"red"``, ``random:0.1``."""
    if not record["forget_classes"] and record.get("forgotten"):
        named, seed = str(record["forgotten"]["forget"]), record["forgotten"]["forget_seed"]
        content = record["forgotten"].get("content")
        named += f" (sha256 {content})" if content else ""
        return named + (f" (seed {seed})" if seed else "")
    names = [class_name(record, index) for index in record["forget_classes"]]
    if len(names) == 1:
        return f"class {names[0]}"
    word = (record.get("config") or {}).get("forget")
    if len(names) > 4 and isinstance(word, str):  # one that names many combinations
        return f'"{drawable(word)}"'
    return f"classes {', '.join(names[:-1])} and {names[-1]}" if names else "no class"


def budget_words(record: Record, step: float) -> str:
    """``400 steps``, ``0.1 share pruned``."""
    if takes_steps(record):
        return f"{step:.10g} step" if step == 1 else f"{step:.10g} steps"
    return f"{step:.10g} {attack_unit(record)}"


def row_label(record: Record, row: Row) -> str:
    """``unlearned``, ``attacked @ 400``, ``attacked @ 8 bits``, and the prompt that was found."""
    if row.get("step") is None:
        return str(row["model"])
    if takes_steps(record):
        return f"attacked @ {row['step']}"
    label = f"attacked @ {budget_words(record, row['step'])}"
    prompt = (record.get("prompts") or {}).get(f"{row['step']:g}")
    return f"{label}: {prompt}" if prompt else label


def synonyms(record: Record) -> dict[str, str]:
    """Number of a wording -> the words that all of its paraphrases say and no other wording's:
    ``{"4": "crimson", "5": "scarlet"}``.
    """
    rows, common = len(record["class_names"]) + 1, dict[str, list[str]]()
    for key, caption in (record.get("paraphrases") or {}).items():
        wording, words = str(int(key) // rows), caption.split()
        common[wording] = [word for word in common.get(wording, words) if word in words]
    every = list(common.values())
    shared = set(every[0]).intersection(*every[1:]) if len(every) > 1 else set()
    return {
        wording: " ".join(word for word in words if word not in shared)
        for wording, words in common.items()
    }


def weight_notes(record: Record) -> list[str]:
    """How the unlearned weights differ from the original's; older records do not say."""
    weights, notes = record.get("weights") or {}, []
    low, high = weights.get("norm_ratio") or (1, 1)
    if low < 1 / 3 or high > 3:
        notes.append(
            f"weights in other units than the original's: {low:.3g} to {high:.3g} times their norms"
        )
    if weights.get("class_rows_changed"):
        notes.append(
            "the class's own row of the table was changed, which no retained image reaches"
        )
    change = weights.get("projection_change") or {}
    lost, kept = number(change, "forgotten"), number(change, "retained")
    if lost and kept is not None and kept < 0.1 * lost:
        notes.append(
            "the projections of the condition changed for the forgotten class alone, where no"
            " retained image reaches"
        )
    return notes


# ---- numbers -------------------------------------------------------------------------------------


def guidance_label(guidance: str) -> str:
    return f"{float(guidance):g}"


def significant(value: float) -> str:
    """Three digits, and neither a point at the end nor an exponent for what is large."""
    return f"{value:#.3g}".rstrip(".") if value < 999.5 else f"{value:.0f}"


def quality_text(value: float | None, quality: Quality) -> str:
    if value is None:
        return DASH
    return significant(value) if quality.digits == "3" else format(value, quality.digits)


def percent(value: float) -> str:
    """Whole percents; one decimal where rounding would claim never or always."""
    digits = 1 if 0 < value < 0.01 or 0.99 < value < 1 else 0
    return f"{100 * value:.{digits}f} %"


def plain(value: float | None, scale: float = 1, digits: int = 1) -> str:
    return DASH if value is None else f"{scale * value:.{digits}f}"


def wrap_safe(text: str) -> str:
    """A number keeps its percent sign or its name on its line."""
    return text.replace(" %", "\xa0%").replace(" = ", "\xa0=\xa0")


def prefixed(prefix: str, text: str) -> str:
    """``attack broke the model, 10.0``; the prefix alone where there is no number."""
    return text if not prefix else prefix if text == DASH else f"{prefix}, {text}"


def joined(values: Sequence[float], digits: str = ".6g") -> str:
    return " ".join(format(value, digits) for value in values)
