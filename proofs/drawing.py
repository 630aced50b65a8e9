"""The proof map: every statement with what it rests on, drawn from the record, and as a list."""

from __future__ import annotations

import html
from typing import Any

WIDTH, GAP, LINE = 276, 52, 40  # of a box; between columns; from one box to the next
MARKS = {"checked": "checked by Coq", "paper": "proved on paper", "open": "open"}


def _nodes(record: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """List every statement by name: those that Coq has checked, then those of the page alone."""
    nodes = {}
    for t in record["theorems"]:
        nodes[t["statement"]] = {
            "label": t["label"], "prose": t["prose"], "status": "checked",
            "on": t["rests_on"]["theorems"], "files": t["rests_on"]["files"],
            "source": f"{t['proof'].removesuffix('.v')}.html#{t['statement']}_holds",
            "poster": "urs" not in t["label"],
        }  # fmt: skip
    for p in record["paper"]:
        nodes[p["name"]] = {**p, "files": [], "source": None, "poster": False}
    return nodes


def _mark(status: str, x: float, y: float) -> str:
    half = f'<path d="M{x} {y - 6}a6 6 0 0 0 0 12z" fill="currentColor"/>'
    fill = "currentColor" if status == "checked" else "none"
    ring = f'<circle cx="{x}" cy="{y}" r="6" fill="{fill}" stroke="currentColor"/>'
    return ring + (half if status == "paper" else "")


def _links(node: dict[str, Any], label: str) -> str:
    """Link the label to the prose, and the status to the source where there is one."""
    status = MARKS[node["status"]]
    if node["source"]:
        status = f'<a href="../_static/proofs/Proofs.{node["source"]}">{status}</a>'
    return f'<a href="../{node["prose"]}">{label}</a> ({status})'


def _band(nodes: dict[str, dict[str, Any]], names: list[str], top: float) -> dict[str, Any]:
    """Place the nodes of one band: a column for each length of the way down to the base."""

    def depth(name: str) -> int:
        return max((depth(on) + 1 for on in nodes[name]["on"] if on in nodes), default=0)

    fill: dict[int, float] = {}
    places = {}
    for name in names:
        column = min(depth(name), 2)
        y = fill.get(column, top)
        fill[column] = y + LINE
        places[name] = (column * (WIDTH + GAP) + 4, y)
    return {"places": places, "bottom": max(fill.values(), default=top)}


def proof_map(record: dict[str, Any]) -> str:
    """Draw one figure in the colours of the page, and the same as a list."""
    nodes = _nodes(record)
    drawn, places, top = [], {}, 30.0
    for title, poster in (("The poster's, and what they rest on", True), ("Ours", False)):
        names = [name for name in nodes if nodes[name]["poster"] is poster]
        drawn.append(f'<text x="4" y="{top - 8}" font-weight="bold">{title}</text>')
        band = _band(nodes, names, top)
        places |= band["places"]
        top = band["bottom"] + 34
    for name, (x, y) in places.items():
        for on in nodes[name]["on"]:
            if on in places:
                u, v = places[on][0] + WIDTH, places[on][1] + 15
                bend = GAP / 3 if x > u else 3 * GAP
                drawn.append(
                    f'<path d="M{u} {v}C{u + bend} {v} {x - bend} {y + 15} {x} {y + 15}" '
                    'fill="none" stroke="currentColor" opacity=".45"/>'
                )
    for name, (x, y) in places.items():
        node = nodes[name]
        heavy = 2 if node["poster"] else 1
        drawn.append(
            f'<rect x="{x}" y="{y}" width="{WIDTH}" height="30" rx="4" fill="none" '
            f'stroke="currentColor" stroke-width="{heavy}"/>'
        )
        mark = _mark(node["status"], x + 14, y + 15)
        if node["source"]:
            said = html.escape(f"proof of {node['label']}")
            mark = (
                f'<a href="../_static/proofs/Proofs.{node["source"]}" aria-label="{said}">'
                f"{mark}</a>"
            )
        short = node["label"].removeprefix("Ours, ").removeprefix("Ours ").replace(" (ours)", "")
        short = short[0].upper() + short[1:]
        short = short if len(short) <= 38 else short[:36] + "…"
        drawn.append(
            f'{mark}<a href="../{node["prose"]}"><text x="{x + 27}" y="{y + 19}">'
            f"{html.escape(short)}</text></a>"
        )
    x = 2 * (WIDTH + GAP) + 18  # the key, where the columns leave room
    for i, (status, words) in enumerate(MARKS.items()):
        drawn.append(_mark(status, x, 210 + 24 * i))
        drawn.append(f'<text x="{x + 14}" y="{214 + 24 * i}">{words}</text>')
    width = 3 * WIDTH + 2 * GAP + 8
    figure = (
        f'<div class="proof-map"><svg viewBox="0 0 {width} {top:.0f}" '
        f'width="{width}" height="{top:.0f}" font-size="12" fill="currentColor">'
        + "".join(drawn) + "</svg></div>"
    )  # fmt: skip
    items = []
    for node in nodes.values():
        on = [nodes[n]["label"] for n in node["on"] if n in nodes]
        text = _links(node, html.escape(node["label"]))
        parts = [f"rests on {html.escape('; '.join(on))}"] if on else []
        parts += [f"lemmas of {', '.join(node['files'])}"] if node["files"] else []
        items.append(f"<li>{text}{': ' if parts else ''}{'; '.join(parts)}</li>")
    style = (
        "<style>.proof-map{overflow-x:auto}.proof-map svg{max-width:none}"
        "@media (max-width:700px){.proof-map{display:none}}</style>"
    )
    listed = f"<details><summary>The same as a list</summary><ul>{''.join(items)}</ul></details>"
    phone = '<script>if(matchMedia("(max-width:700px)").matches)'
    phone += "document.currentScript.previousElementSibling.open=true</script>"
    return style + figure + listed + phone + "\n"
