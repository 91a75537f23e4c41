"""Make page.html from page.source.html and Vega: `make page`.

`dvc plots` fills page.html, which .dvc/config names. DVC's own page loads Vega from the network; this one contains it,
so it works offline.
"""

from pathlib import Path

import vl_convert

HERE = Path(__file__).parent

# The script of each of DVC's charts calls vegaEmbed(element, chart). The menu of a chart only exports it as a picture,
# and links to no website.
SNIPPET = """
const options = {
  renderer: "svg",
  actions: {export: true, source: false, compiled: false, editor: false},
  config: {
    font: "system-ui, sans-serif",
    legend: {orient: "bottom", direction: "vertical", symbolType: "stroke", symbolSize: 400, symbolOpacity: 1},
  },
};
// Without data, as of labels that a model does not have, there is nothing to draw: DVC's chart is {}.
window.vegaEmbed = (element, chart) =>
  chart.data ? vegaEmbed(element, chart, options) : document.querySelector(element).remove();
"""


def page() -> str:
    """Return the page. Vega is a classic script, since those of DVC's charts run before any module would."""
    parts = {
        "vega_version": vl_convert.get_vega_version(),
        "vega_lite_version": vl_convert.get_vegalite_versions()[-1],
        "vega_embed_version": vl_convert.get_vega_embed_version(),
        "vega": f"(() => {{\n{vl_convert.javascript_bundle(SNIPPET)}\n}})();",
    }
    text = (HERE / "page.source.html").read_text(encoding="utf-8")
    for name, part in parts.items():
        text = text.replace(f"{{{name}}}", part)
    return text


if __name__ == "__main__":
    (HERE / "page.html").write_text(page(), encoding="utf-8", newline="\n")
