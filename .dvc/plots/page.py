"""Make page.html, which `dvc plots` fills (.dvc/config names it), of page.source.html and Vega: `make page`.

DVC's own page loads Vega from the network; this one carries it, so that charts are drawn anywhere.
"""

from pathlib import Path

import vl_convert

HERE = Path(__file__).parent

# The script of each of DVC's charts calls vegaEmbed(element, chart). A chart's menu saves it, and opens no other site.
SNIPPET = """
const options = {
  renderer: "svg",
  actions: {export: true, source: false, compiled: false, editor: false},
  config: {
    font: "system-ui, sans-serif",
    legend: {orient: "bottom", direction: "vertical", symbolType: "stroke", symbolSize: 400, symbolOpacity: 1},
  },
};
window.vegaEmbed = (element, chart) => vegaEmbed(element, chart, options);
"""


def page() -> str:
    """The page, with Vega as a classic script: those of DVC's charts run at once, before any module would."""
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
