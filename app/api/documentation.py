"""The interactive documentation, all of it served by HIVE, and what the OpenAPI document says besides the routes."""

import base64
import hashlib
import json
import re
from copy import deepcopy
from functools import cache
from importlib.resources import files
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.docs import get_swagger_ui_html
from fastapi.routing import APIRoute
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.staticfiles import StaticFiles

from app.api.event_schemas import event_schemas
from app.api.made_once import MadeOnce
from app.api.prefix import public_path
from app.api.problems import Problem
from app.api.response_headers import COMPONENTS, describe_headers
from app.core.browser_headers import POLICY
from app.mail_settings import origin_of

ASSETS = "/docs/assets"


def serve_docs(app: FastAPI, *, public_url: str | None) -> None:
    """Serve `/openapi.json` and `/docs`, whose assets come from a package, so that it works without internet."""
    app.mount(ASSETS, StaticFiles(directory=str(files("fastapi_swagger") / "resources")), name="docs-assets")

    @cache
    def document_below(path: str) -> MadeOnce:
        content = json.dumps(_placed(app.openapi(), path, public_url), ensure_ascii=False, separators=(",", ":"))
        return MadeOnce(content.encode(), media_type="application/json")

    async def show_document(request: Request) -> Response:
        # The path is a setting, so there are no more documents than two.
        return document_below(public_path(request.scope, "")).answer(request)

    async def show_docs(request: Request) -> HTMLResponse:
        assets = public_path(request.scope, ASSETS)
        page = get_swagger_ui_html(
            openapi_url=public_path(request.scope, "/openapi.json"),
            title="HIVE API",
            swagger_js_url=f"{assets}/swagger-ui-bundle.js",
            swagger_css_url=f"{assets}/swagger-ui.css",
            swagger_favicon_url=f"{assets}/favicon-32x32.png",
        )
        page.headers[POLICY] = _policy_of(bytes(page.body).decode(), public_url)
        return page

    app.add_route("/openapi.json", show_document, include_in_schema=False)
    app.add_route("/docs", show_docs, include_in_schema=False)


def _policy_of(page: str, public_url: str | None) -> str:
    """What the page needs: its own script and the assets, pictures that Swagger's style has in it, and the API."""
    [script] = re.findall(r"<script>(.*?)</script>", page, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    api = " ".join(["'self'", *([origin_of(public_url)] if public_url else [])])
    return (
        "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none';"
        f" script-src 'self' 'sha256-{digest}'; style-src 'self' 'unsafe-inline'; img-src 'self' data:;"
        f" connect-src {api}"
    )


def _placed(document: dict[str, Any], here: str, public_url: str | None) -> dict[str, Any]:
    """The document, with where its paths are. Below no path, and without `PUBLIC_URL`, that goes without saying."""
    if not here and public_url is None:
        return document
    # The first one also fits a client that reached HIVE by another name.
    servers = [here or "/", *([public_url] if public_url else [])]
    components = {**document["components"], "securitySchemes": deepcopy(document["components"]["securitySchemes"])}
    for scheme in components["securitySchemes"].values():
        for flow in scheme.get("flows", {}).values():
            flow |= {name: here + flow[name] for name in ("tokenUrl", "refreshUrl") if name in flow}
    return {**document, "servers": [{"url": url} for url in servers], "components": components}


def operation_id(route: APIRoute) -> str:
    """What generated clients call the operation: its function's name."""
    return route.name


def operation_id_at_root(route: APIRoute) -> str:
    """Name the operation of a route that is answered without `/api/v1` as well."""
    return f"{route.name}_at_root"


def complete_document(app: FastAPI) -> None:
    """Put what the framework doesn't know into the OpenAPI document: our errors, and the headers of answers."""
    generate = app.openapi

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            document = generate()
            components = document.setdefault("components", {})
            _put_problem(components.setdefault("schemas", {}))
            components["schemas"] |= event_schemas()
            components["headers"] = COMPONENTS
            for path, operations in document["paths"].items():
                for operation in operations.values():
                    _drop_nulls(operation.get("parameters", []))
                    _drop_default(operation.get("requestBody", {}))
                    describe_headers(path, operation)
            app.openapi_schema = document
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]  # FastAPI's documented way to extend the document


def _put_problem(schemas: dict[str, Any]) -> None:
    for unused in ("HTTPValidationError", "ValidationError"):
        schemas.pop(unused, None)
    problem = Problem.model_json_schema(ref_template="#/components/schemas/{model}")
    schemas |= problem.pop("$defs") | {"Problem": problem}


def _drop_nulls(parameters: list[dict[str, Any]]) -> None:
    """A parameter that needn't be there is null in Python, but no address and no header can have a null in it."""
    for parameter in parameters:
        schema = parameter["schema"]
        choices = [choice for choice in schema.get("anyOf", []) if choice != {"type": "null"}]
        if len(choices) == 1:
            del schema["anyOf"]
            parameter["schema"] = choices[0] | schema
        elif choices:
            schema["anyOf"] = choices


def _drop_default(body: dict[str, Any]) -> None:
    """A body that needn't be there is a default in Python, which generated clients would send."""
    for content in body.get("content", {}).values():
        content["schema"].pop("default", None)
