"""HTML pages from sections: one file each, which needs no other and asks no network.

Text is escaped by the template engine (autoescape), pictures are data URIs, and the page's own
Content-Security-Policy forbids whatever would be fetched.
"""

from collections.abc import Sequence

import jinja2

from jaxseg.report.parts import Facts, Part, Section

_TEMPLATES = jinja2.Environment(
    loader=jinja2.PackageLoader("jaxseg.report", "templates"),
    autoescape=True,
    undefined=jinja2.StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)


def _kind(part: Part) -> str:
    """Returns the name of the template's macro for a part."""
    return type(part).__name__.lower()


_TEMPLATES.filters["kind"] = _kind


def render(title: str, summary: Facts, sections: Sequence[Section]) -> str:
    """Returns the page; sections without parts are left out."""
    shown = [section for section in sections if section.parts]
    text = _TEMPLATES.get_template("page.html").render(title=title, summary=summary, sections=shown)
    # Names of files that are not UTF-8 hold lone surrogates, which no page can.
    return text.encode("utf-8", "backslashreplace").decode()
