"""The tables of tools/bench.py."""

from collections.abc import Mapping

from engine.bench.targets import LARGE


def section_text(section: Mapping) -> str:
    """A measured section as text, with what its targets say."""
    threads = f"{section['threads']} thread{'s' * (section['threads'] > 1)}"
    lines = [f"{section['title']} · {section['dtype']}, {threads} · {_versions(section)}"]
    lines += _TEXTS[section["kind"]](section)
    for row in section["rows"]:
        if row.get("bound"):
            lines.append(f"  {row['shape']}: {row['bound']}")
        if row.get("disagree"):
            lines.append(f"  {row['shape']}: NOT THE SAME NUMBERS as ours: {', '.join(row['disagree'])}")
    for target in section.get("targets", []):
        how = " in the median" if target["median"] else " in the worst row" if len(section["rows"]) > 1 else ""
        how += f" above {LARGE / 1e6:.0f} MB" if target["large_only"] else ""
        lines.append(f"  target {target['text']}: {_verdict(target['ratio'], target['missed_by'])}{how}")
    busy = max((row["others_cores"] or 0 for row in section["rows"] if "others_cores" in row), default=0)
    if busy > 0.1:
        lines.append(f"  other programs used up to {busy:.1f} cores meanwhile: times are upper bounds, ratios rough")
    lines += [f"  {name} is left out: {why}" for name, why in section["left_out"].items()]
    return "\n".join(lines) + "\n"


def _times(section):
    """ms forward + backward, in brackets forward alone; the floor; ratios with their verdicts."""
    tiny = section.get("tiny")
    rows = [*section["rows"], *([tiny] if tiny else [])]
    names = list(rows[0]["times"])
    ratios = section["targets"]
    has_floor = "floor_ms" in rows[0]
    head = ["ms both ways (forward)", *names]
    peer = "convolution" if "convolution" in names else "Paddle"
    has_products = "gflops" in rows[0]
    head += ["floor", "ours / floor"] if has_floor else ["GFLOP/s", peer] if has_products else []
    table = [head + [target["text"] for target in ratios]]
    for index, row in enumerate(rows):
        cells = [f"{row['shape']}{', what a call costs' if row is tiny else ''}"]
        times = [row["times"][name] for name in names]
        cells += [f"{_ms(time['forward_backward_ms'])} ({_ms(time['forward_ms'])})" for time in times]
        if has_floor:
            floor = row["floor_ms"]
            cells += [f"{_ms(floor['forward_backward'])} ({_ms(floor['forward'])})"]
            cells += [f"{row['values']['ours'] / floor['forward_backward']:.2f}"]
        elif has_products:
            cells += [f"{row['gflops'][name]:.0f}" for name in ("ours", peer)]
        if row is not tiny:
            cells += [_verdict(target["ratios"][index], target["rows_missed_by"][index]) for target in ratios]
        table.append(cells)
    lines = _table(table)
    if has_floor:
        passes = section["passes"]
        speeds = ", ".join(f"{row['copy_gigabytes_per_second']:.0f}" for row in section["rows"])
        lines.append(
            f"  floor: the tensor is read or written {passes['forward_backward']} ({passes['forward']}) times, "
            f"as fast as the same threads copy such tensors: {speeds} GB/s"
        )
    return lines


def _memory(section):
    table = [["MB above set-up", "ours", "Paddle", "results", *(target["text"] for target in section["targets"])]]
    for index, row in enumerate(section["rows"]):
        cells = [str(row["shape"]), *(f"{row['values'][name]:.1f}" for name in ("ours", "Paddle", "results"))]
        for target in section["targets"]:
            cells.append(_verdict(target["ratios"][index], target["rows_missed_by"][index]))
        table.append(cells)
    return _table(table)


def _growth(section):
    lines = []
    for row in section["rows"]:
        axis, first, last = row["axis"], row["shapes"][0], row["shapes"][-1]
        lines.append(f"  {row['op']}, {axis}: {first}" + (f" to {last}" if last != first else ""))
        table = [[axis, *map(str, row["points"]), f"~ {axis}^p"]]
        for name, values in row["milliseconds"].items():
            power = f"p = {row['exponents'][name]:.2f}" if "exponents" in row else ""
            table.append([f"{name}, ms", *map(_ms, values), power])
        lines += _table(table)
    return lines


def _step(section):
    (row,) = section["rows"]
    ours = row["values"].get("ours")
    table = [[f"{row['shape']}, ms", "", "step", "forward", "of ours", "peak MB", "cores others used"]]
    for name, times in row["times"].items():
        step = times["forward_backward_ms"]
        cells = [name, times["words"], _ms(step), _ms(times["forward_ms"]), f"{step / ours:.2f}" if ours else ""]
        cells.append(f"{row['peaks'][name] / 2**20:.0f}" if name in row["peaks"] else "")
        table.append([*cells, "" if times["others_cores"] is None else f"{times['others_cores']:.1f}"])
    return _table(table)


_TEXTS = {"times": _times, "memory": _memory, "growth": _growth, "step": _step}


def _versions(section):
    versions = section["versions"]
    names = {"paddle": "Paddle", "torch": "PyTorch", "torchvision": "torchvision"}
    peers = [f"{words} {versions[name]}" for name, words in names.items() if versions.get(name)]
    return " · ".join([f"ours: {versions['ours']}" if "ours" in versions else "", *peers]).lstrip(" ·")


def _verdict(ratio, missed_by):
    if ratio is None:
        return "not measured"
    if missed_by is None:
        return f"{ratio:.2f}"
    return f"{ratio:.2f} " + (f"missed by {missed_by:.0%}" if missed_by else "met")


def _ms(value):
    return f"{value:.{0 if value >= 100 else 1 if value >= 10 else 2 if value >= 0.1 else 3}f}"


def _table(rows):
    """Aligned columns; the first to the left."""
    width = max(map(len, rows))
    columns = list(zip(*(row + [""] * (width - len(row)) for row in rows), strict=True))
    for index, column in enumerate(columns):
        align = str.rjust if index else str.ljust
        columns[index] = [align(cell, max(map(len, column))) for cell in column]
    return ["  " + "  ".join(cells) for cells in zip(*columns, strict=True)]
