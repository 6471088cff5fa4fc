"""The schemas of events in the OpenAPI document: one for each type, and one for those that a later HIVE may have."""

from typing import Any

from app.events.types import EVENT_TYPES, EventData
from app.schemas.event import ChangedTask, Envelope

REFERENCE = "#/components/schemas/{model}"


def event_schemas() -> dict[str, Any]:
    """`Envelope` is any of them. Those that are known are told apart by `type`."""
    envelope = Envelope.model_json_schema(mode="serialization", ref_template=REFERENCE)
    schemas: dict[str, Any] = envelope.pop("$defs")
    schemas[ChangedTask.__name__] = ChangedTask.model_json_schema(mode="serialization")
    mapping = {}
    for event in EVENT_TYPES:
        data = event.model_json_schema(mode="serialization", ref_template=REFERENCE)
        schemas |= data.pop("$defs", {}) | {event.__name__: data, _name_of(event): _schema_of(event, envelope)}
        mapping[event.type.value] = REFERENCE.format(model=_name_of(event))
    known = [{"$ref": reference} for reference in mapping.values()]
    return schemas | {
        "KnownEvent": {"oneOf": known, "discriminator": {"propertyName": "type", "mapping": mapping}},
        "OtherEvent": _schema_of_others(envelope, list(mapping)),
        "Envelope": {
            "description": envelope["description"],
            "anyOf": [{"$ref": REFERENCE.format(model=name)} for name in ("KnownEvent", "OtherEvent")],
        },
    }


def _name_of(event: type[EventData]) -> str:
    return f"{event.__name__}Event"


def _schema_of(event: type[EventData], envelope: dict[str, Any]) -> dict[str, Any]:
    told: dict[str, Any] = {
        "type": {"type": "string", "const": event.type.value},
        "data": {"$ref": REFERENCE.format(model=event.__name__)},
    }
    if event.type.raises_version:
        told["task"] = {"$ref": REFERENCE.format(model=ChangedTask.__name__)}
    return {**envelope, "title": _name_of(event), "properties": envelope["properties"] | told}


def _schema_of_others(envelope: dict[str, Any], known: list[str]) -> dict[str, Any]:
    """For a `type` that this document doesn't know."""
    told = {"type": {"type": "string", "not": {"enum": known}}}
    return {
        **envelope,
        "title": "OtherEvent",
        "description": "An event of a type that a later HIVE has. Readers have to bear it.",
        "properties": envelope["properties"] | told,
    }
