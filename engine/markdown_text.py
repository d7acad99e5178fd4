"""Markdown in which words may be anybody's, and its HTML: no element is made but by signs that we have set.

A word of a folder, a config or a file goes through `escape`; a text that is Markdown already is a `Markdown`.
"""

import html
import re
from collections.abc import Mapping

import markdown
from markdown.treeprocessors import Treeprocessor

from engine.terminal import printable

_SIGNS = re.compile(r"[\\`*\[\]|~#$]|(?<![^\W_])_|_(?![^\W_])|(?<=:)/(?=/)")  # an address is no link either
NOT_OURS = (  # what of Markdown we do not write: raw HTML and links
    ("preprocessors", "html_block"), ("parser.blockprocessors", "reference"),
    *(("inlinePatterns", name) for name in (
        "html", "autolink", "automail", "reference", "link", "image_reference", "short_reference", "short_image_ref",
    )),
)


class Markdown(str):
    """A text whose signs are meant as Markdown's."""


def escape(text: object) -> Markdown:
    """A text as Markdown that shows it, on one line, letter by letter."""
    shown = html.escape(printable(str(text)), quote=False)
    return Markdown(_SIGNS.sub(lambda sign: f"&#{ord(sign[0])};", shown))


def code(text: str) -> Markdown:
    """A name as code; as it is where it has letters that code would not show."""
    if re.fullmatch(r"[\w .,:=+/@%-]+", text):
        return Markdown(f"`{text}`")
    return Markdown(f"&#{ord(text[0])};{escape(text[1:])}")  # a dash at the beginning would make a list


def to_html(text: Markdown, pictures: Mapping[str, str]) -> str:
    """The HTML of a Markdown text. `pictures`: by its file, the address where a picture is shown from."""
    converter = markdown.Markdown(extensions=["tables"])
    for room, name in NOT_OURS:
        registry = converter
        for part in room.split("."):
            registry = getattr(registry, part)
        registry.deregister(name)

    class Pictures(Treeprocessor):
        def run(self, root):
            for image in root.iter("img"):
                image.set("src", pictures[image.get("src")])

    converter.treeprocessors.register(Pictures(converter), "pictures", 0)
    return converter.convert(text)
