"""Alignments as one HTML page that needs nothing else: colours, a filter, sorted by errors."""

from collections.abc import Iterable, Iterator, Sequence
from html import escape

from moe_asr.evaluate.compare import Comparison
from moe_asr.evaluate.confusions import count_confusions
from moe_asr.evaluate.speakers import errors_by_speaker
from moe_asr.evaluate.summary import format_comparison
from moe_asr.evaluate.units import PLURALS, UNITS
from moe_asr.evaluate.wer import AlignedPair

_STYLE = """
body{font:15px/1.5 system-ui,sans-serif;max-width:70em;margin:1em auto;padding:0 1em;color:#222}
pre,small{color:#555}pre{overflow-x:auto}h1{font-size:1.4em}h2{font-size:1em;margin:0}
table{border-collapse:collapse;margin:.5em 0}td,th{padding:.1em .8em;text-align:right}
td:first-child,th:first-child{text-align:left}tr:nth-child(even){background:#f4f4f4}
form{position:sticky;top:0;background:#fff;padding:.5em 0;border-bottom:1px solid #ccc}
label{margin-right:1em}article{border-bottom:1px solid #eee;padding:.4em 0}article p{margin:.1em 0}
del{background:#ffd6d6;color:#900}ins{background:#d3f0d3;color:#063;text-decoration:none}
.s del{text-decoration:none}.s{white-space:nowrap;border-bottom:2px solid #e0a000}
ins.i{border-bottom:2px solid #2a8a2a}[hidden]{display:none}
"""
_SCRIPT = """
const form=document.forms[0],list=document.getElementById('list'),all=[...list.children];
const shown=document.getElementById('shown');
function update(){
 const kinds=[...form.querySelectorAll('[name=kind]:checked')].map(x=>x.value),q=form.q.value.toLowerCase();
 let n=0;
 for(const a of all){
  const k=a.dataset.k;
  a.hidden=!((k===''?form.right.checked:[...k].some(x=>kinds.includes(x)))&&a.textContent.toLowerCase().includes(q));
  n+=!a.hidden;}
 shown.textContent=n+' of '+all.length+' shown';}
form.order.onchange=()=>{
 const key=form.order.value,sign=key==='n'?1:-1;
 list.append(...all.sort((a,b)=>sign*(a.dataset[key]-b.dataset[key])||a.dataset.n-b.dataset.n));};
form.oninput=update;form.onsubmit=()=>false;update();
"""


def format_html(comparison: Comparison, title: str, limit: int = 1000, top: int = 50) -> str:
    """The page.

    Args:
        comparison: of `compare`.
        title: of the page.
        limit: of the utterances that have most errors (in all systems together), how many are shown.
        top: how many of the most frequent errors are.
    """
    reports = comparison.reports
    ids = list(next(iter(reports.values())).utterances)
    errors = {
        name: sum(report.utterances[name].counts.errors for report in reports.values())
        for name in ids
    }
    order = sorted(range(len(ids)), key=lambda i: -errors[ids[i]])
    body = [
        f"<h1>{escape(title)}</h1>",
        f"<pre>{escape(format_comparison(comparison, top=0, speakers=False))}</pre>",
        *_details(comparison, top),
        "<form>",
        *(
            f'<label><input type="checkbox" name="kind" value="{key}" checked> {label}</label>'
            for key, label in (("s", "substitutions"), ("d", "deletions"), ("i", "insertions"))
        ),
        '<label><input type="checkbox" name="right"> without errors</label>',
        '<label>order <select name="order"><option value="e">errors<option value="r">rate'
        '<option value="n">references</select></label>',
        '<label><input type="search" name="q" placeholder="id or words"></label>',
        '<small id="shown"></small></form>',
    ]
    if len(ids) > limit:
        body.append(
            f"<p>Of {len(ids)} utterances the {limit} that have most errors are on this page.</p>"
        )
    body.append('<div id="list">')
    body += [_article(comparison, ids[i], i, errors[ids[i]]) for i in order[:limit]]
    body.append("</div>")
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">\n'
        f"<title>{escape(title)}</title>\n<style>{_STYLE}</style></head>\n<body>\n"
        + "\n".join(body)
        + f"\n<script>{_SCRIPT}</script>\n</body></html>\n"
    )


def _article(comparison: Comparison, name: str, number: int, errors: int) -> str:
    """One utterance, a paragraph for each system."""
    unit = comparison.options.unit
    scores = {system: report.utterances[name] for system, report in comparison.reports.items()}
    kinds = "".join(
        kind
        for kind, field in (("s", "substitutions"), ("d", "deletions"), ("i", "insertions"))
        if any(getattr(score.counts, field) for score in scores.values())
    )
    length = sum(score.counts.reference_length for score in scores.values())
    rate = errors / max(length, 1e-3)  # without a reference: above all others, if there are errors
    lines = [f'<article data-n="{number}" data-e="{errors}" data-r="{rate:.4f}" data-k="{kinds}">']
    speaker = f" ({comparison.speakers[name]})" if comparison.speakers else ""
    lines.append(f"<h2>{escape(name + speaker)}</h2>")
    for system, score in scores.items():
        counts = score.counts
        label = f"{escape(system)}: " if len(scores) > 1 else ""
        words = ("" if unit == "char" else " ").join(_words(score.alignment))
        lines.append(
            f"<small>{label}{counts.substitutions} sub, {counts.deletions} del, {counts.insertions} "
            f'ins, {counts.reference_length} {PLURALS[unit]}</small><p dir="auto">{words}</p>'
        )
    return "".join(lines) + "</article>"


def _words(alignment: Iterable[AlignedPair]) -> Iterator[str]:
    for reference, hypothesis in alignment:
        left, right = escape(reference or ""), escape(hypothesis or "")
        if reference == hypothesis:
            yield left
        elif reference is None:
            yield f'<ins class="i">{right}</ins>'
        elif hypothesis is None:
            yield f"<del>{left}</del>"
        else:
            yield f'<span class="s"><del>{left}</del> <ins>{right}</ins></span>'


def _details(comparison: Comparison, top: int) -> Iterator[str]:
    """Folded tables: speakers and the most frequent errors of each system."""
    unit = comparison.options.unit
    for name, report in comparison.reports.items():
        label = f"{name}: " if len(comparison.reports) > 1 else ""
        if comparison.speakers is not None:
            speakers = errors_by_speaker(report, comparison.speakers)
            yield _table(
                f"{label}{len(speakers)} speakers",
                ("speaker", f"{UNITS[unit]} %", "errors", PLURALS[unit], "utterances"),
                [
                    (speaker, f"{counts.wer:.2f}", counts.errors, counts.reference_length, number)
                    for speaker, (number, counts) in speakers.items()
                ],
            )
        found = count_confusions(report)
        pairs = [(*pair, number) for pair, number in found.substitutions.items()]
        deletions, insertions = list(found.deletions.items()), list(found.insertions.items())
        for kind, heads, rows in (
            ("substitutions", ("reference", "hypothesis", "times"), pairs[:top]),
            ("deletions", ("reference", "times"), deletions[:top]),
            ("insertions", ("hypothesis", "times"), insertions[:top]),
        ):
            if rows:
                yield _table(f"{label}most frequent {kind}", heads, rows)


def _table(summary: str, heads: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    def line(tag: str, cells: Iterable[object]) -> str:
        inner = "".join(f"<{tag}>{escape(str(cell))}</{tag}>" for cell in cells)
        return f"<tr>{inner}</tr>"

    inner = line("th", heads) + "".join(line("td", row) for row in rows)
    return f"<details><summary>{escape(summary)}</summary><table>{inner}</table></details>"
