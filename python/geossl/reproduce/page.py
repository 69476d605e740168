"""A report as Markdown and as HTML, from the same parts."""

from __future__ import annotations

import html
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #222; max-width: 70rem; margin: 2rem auto; padding: 0 1rem; }
table { border-collapse: collapse; margin: 1rem 0; }
th, td { padding: .25rem .7rem; border-bottom: 1px solid #ddd; text-align: right; white-space: nowrap; }
th:first-child, td:first-child { text-align: left; }
th { border-bottom: 2px solid #888; }
img { max-width: 100%; }
"""


@dataclass(frozen=True, kw_only=True)
class Section:
    """A title and what is below it, in this order: text, table, list, pictures."""

    title: str
    text: Sequence[str] = ()
    """Paragraphs."""
    header: Sequence[str] = ()
    rows: Sequence[Sequence[str]] = ()
    items: Sequence[str] = ()
    pictures: Sequence[tuple[str, str]] = field(default=())
    """(file relative to the report, caption)."""


def to_markdown(title: str, sections: Sequence[Section]) -> str:
    """The report as Markdown, with GitHub's tables."""
    blocks = [f"# {title}"]
    for section in sections:
        blocks += [f"## {section.title}", *section.text]
        if section.header:
            lines = [section.header, ["---", *["---:"] * (len(section.header) - 1)], *section.rows]
            blocks.append("\n".join(_markdown_row(line) for line in lines))
        if section.items:
            blocks.append("\n".join(f"- {item}" for item in section.items))
        blocks += [f"![{caption}]({file})" for file, caption in section.pictures]
    return "\n\n".join(blocks) + "\n"


def to_html(title: str, sections: Sequence[Section]) -> str:
    """The report as one HTML page, beside which the pictures lie."""
    body = [f"<h1>{html.escape(title)}</h1>"]
    for section in sections:
        body.append(f"<h2>{html.escape(section.title)}</h2>")
        body += [f"<p>{html.escape(paragraph)}</p>" for paragraph in section.text]
        if section.header:
            rows = [_row("th", section.header), *(_row("td", row) for row in section.rows)]
            body.append("<table>\n" + "\n".join(rows) + "\n</table>")
        if section.items:
            body.append("<ul>\n" + "\n".join(f"<li>{html.escape(item)}</li>" for item in section.items) + "\n</ul>")
        for file, caption in section.pictures:
            words = html.escape(caption, quote=True)
            body.append(f'<p><img src="{html.escape(file, quote=True)}" alt="{words}"><br>{words}</p>')
    head = f'<meta charset="utf-8"><title>{html.escape(title)}</title><style>{STYLE}</style>'
    return f"<!doctype html>\n<html><head>{head}</head><body>\n" + "\n".join(body) + "\n</body></html>\n"


def _markdown_row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cell.replace('|', '&#124;') for cell in cells)} |"


def _row(tag: str, cells: Sequence[str]) -> str:
    return "<tr>" + "".join(f"<{tag}>{html.escape(cell)}</{tag}>" for cell in cells) + "</tr>"
