"""Models beside the article's, and `build`, which makes the one that `model` in params.yaml names.

Put your own model here, one file each: DVC watches this folder, so that an edit trains again. docs/your-own.md shows
how. Works without DVC and MLflow: import only `cvae.model`, `data`, `compute` and `support` here.
"""

import importlib
import inspect
import json
import re
from collections.abc import Mapping

from cvae.data.dataset import Schema
from cvae.model import VAE
from cvae.support.errors import UserError, one_line

WHERE = "cvae.model:CVAE, or cvae.models.FILE:CLASS for a class in src/cvae/models/FILE.py"
OF_EVERY_MODEL = ("labels", "latent_dims", "likelihood", "prior_std")


def model_class(name: str) -> type[VAE]:
    """Return the class called `name`, as "module:Class".

    Only modules in cvae.models can be named, and cvae.model: DVC watches their files. So a downloaded model cannot
    import anything else either.

    Raises:
        UserError: there is no such module or class, it is not a `VAE`, or it lacks a method.
    """
    module, _, class_name = name.partition(":")
    if not re.fullmatch(r"cvae\.model(s(\.\w+)+)?:[^\W\d]\w*", name):
        raise UserError(f"model is {one_line(name)[:80]}; allowed: {WHERE}")
    try:
        found = getattr(importlib.import_module(module), class_name, None)
    except ModuleNotFoundError as error:
        if not f"{module}.".startswith(f"{error.name}."):
            raise  # the module is there, but imports one that is not
        raise UserError(f"model is {name}, but there is no {module.replace('.', '/')}.py in src") from None
    if not (inspect.isclass(found) and issubclass(found, VAE)) or found is VAE:
        problem = "has no class of that name" if found is None else "is not a subclass of cvae.model.VAE"
        raise UserError(f"model is {name}, but {module if found is None else class_name} {problem}")
    for method in ("encode", "logits"):
        if getattr(found, method) is getattr(VAE, method):
            raise UserError(f"model is {name}, but {class_name} does not define {method}")
    return found


def arguments(name: str) -> set[str]:
    """Return the names of the arguments, beside `schema`, that the model class `name` takes."""
    return set(_parameters(model_class(name)))


def build(name: str, schema: Schema, settings: Mapping[str, object]) -> VAE:
    """Build the model `name` for data of `schema`, from those of `settings` that its class takes.

    Raises:
        UserError: there is no such model, `settings` lack an argument that it needs, it ignores one that every model
            has, or its `configuration` could not rebuild it.
    """
    kind = model_class(name)
    if next(iter(inspect.signature(kind).parameters), "") != "schema":
        raise UserError(f"{name}: its __init__ lacks the argument schema, which must come first")
    taken = _parameters(kind)
    if needed := {key for key, each in taken.items() if each.default is each.empty} - settings.keys():
        advice = "give it a default, or add the parameter"
        raise UserError(f"{name}: its __init__ needs {min(needed)}, which params.yaml lacks; {advice}")
    model = kind(schema, **{key: value for key, value in settings.items() if key in taken})
    for key in OF_EVERY_MODEL:
        if key in settings and getattr(model, key) != settings[key]:
            was, wanted = (f"{value!r:.60}" for value in (getattr(model, key), settings[key]))
            raise UserError(f"{name}: {key} is {was} instead of {wanted}; its __init__ must pass {key} on to VAE's")
    configuration = model.configuration()
    if missing := taken.keys() - configuration.keys():
        raise UserError(f"{name}: its configuration lacks {min(missing)}, so it could not be loaded again; add it")
    if unknown := configuration.keys() - taken.keys():
        raise UserError(f"{name}: its configuration has {min(unknown)}, which its __init__ does not take; add it there")
    for key, value in configuration.items():
        try:
            json.dumps(value, allow_nan=False)
        except (TypeError, ValueError):
            raise UserError(
                f"{name}: its configuration has {key}, a {type(value).__name__}; JSON cannot hold it"
            ) from None
    return model


def _parameters(kind: type[VAE]) -> dict[str, inspect.Parameter]:
    """Return the parameters of a class, beside `schema`, by name.

    A class that takes `**settings` takes those of the next class in its order of inheritance too.
    """
    found: dict[str, inspect.Parameter] = {}
    for each in (base for base in kind.__mro__ if "__init__" in vars(base)):
        own = [*inspect.signature(each.__init__).parameters.values()][1:]  # without self
        named = {parameter.name: parameter for parameter in own if parameter.kind is not parameter.VAR_KEYWORD}
        found = named | found
        if len(named) == len(own):
            break
    return {name: parameter for name, parameter in found.items() if name != "schema"}
