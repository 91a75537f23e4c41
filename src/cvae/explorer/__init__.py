"""The explorer: one HTML page that runs a trained model in the browser.

`network` reads the layers out of a model, and `page` puts them and some test images into `explorer.html`. The page's
script is in `network.js` (the arithmetic), `pictures.js`, `plane.js`, `drawing.js` and `explorer.js` (the interface).

Works without DVC and MLflow: import nothing from `pipeline`, `tracking` or `commands`.
"""
