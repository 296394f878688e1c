"""The templates of the pages, filled in. All text is escaped: class names, columns and commands are foreign."""

from pathlib import Path
from typing import Any

from medssl.report import formatting

_FILTERS = {
    "score": formatting.format_score,
    "difference": formatting.format_difference,
    "interval": formatting.format_interval,
    "p": formatting.format_p,
    "count": formatting.format_count,
    "range": formatting.format_range,
    "amount": formatting.short_amount,
    "amounts": formatting.label_amounts,
    "init": formatting.init_name,
    "mode": formatting.mode_name,
}


def render_template(template: str, **values: Any) -> str:
    """The text of a template with these values. A value that the template uses and that is missing is an error."""
    import jinja2
    from markupsafe import Markup

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= _FILTERS
    environment.filters["figure"] = Markup  # our own SVG: matplotlib escapes the text in it
    environment.globals["difference_interval"] = formatting.format_difference_interval
    return environment.get_template(template).render(values)
