"""HIVE's protocols are uvicorn's with some methods replaced. This fails when uvicorn's own ones are others.

Then read what has changed, bring `app/wire/http_protocol.py` and `app/websockets/uvicorn_protocol.py` in line, and note
the new digests here.
"""

import hashlib
import inspect
from collections.abc import Callable
from typing import Any

import pytest
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.protocol import Protocol
from websockets.server import ServerProtocol

DIGESTS: dict[Callable[..., Any], str] = {
    HttpToolsProtocol.__init__: "4f08999410347141",
    HttpToolsProtocol.connection_made: "6efb565ff3d36b91",
    HttpToolsProtocol.connection_lost: "c91a4c9bf2e29c55",
    HttpToolsProtocol.data_received: "010a7ae59a5d3b1a",
    HttpToolsProtocol.handle_websocket_upgrade: "179c4f769386ab89",
    HttpToolsProtocol.send_400_response: "ae5a4a3782b646fd",
    HttpToolsProtocol.on_message_begin: "96d377fdc7c2baef",
    HttpToolsProtocol.on_header: "65d62c044f61fdbd",
    HttpToolsProtocol.on_headers_complete: "1ea8589acfad92d8",
    HttpToolsProtocol.on_body: "dba9c32aeba35b6a",
    HttpToolsProtocol.on_message_complete: "1fbad42dc31fc01f",
    HttpToolsProtocol.on_response_complete: "64e254f28e389e76",
    RequestResponseCycle.receive: "8124ae006be71184",
    FlowControl.pause_reading: "7c27388bb984e9ed",
    FlowControl.resume_reading: "a0429d30857e8488",
    WebSocketsSansIOProtocol.__init__: "631dcd744eab875f",
    WebSocketsSansIOProtocol.connection_made: "f533ec93747c2cbf",
    WebSocketsSansIOProtocol.connection_lost: "dd116afc4d8034e1",
    WebSocketsSansIOProtocol.data_received: "c89d394077d8841d",
    WebSocketsSansIOProtocol.handle_connect: "fc648c2161ff8e13",
    WebSocketsSansIOProtocol.shutdown: "e8ace796ada616b7",
    WebSocketsSansIOProtocol.send_500_response: "47eba6fe24f5ddb3",
    WebSocketsSansIOProtocol.handle_events: "b2c9351a5d13493f",
    WebSocketsSansIOProtocol.handle_cont: "d96fe1479da61beb",
    WebSocketsSansIOProtocol.send_receive_event_to_app: "a2b10de91477dc1d",
    WebSocketsSansIOProtocol.handle_ping: "41bcf345d372c55c",
    WebSocketsSansIOProtocol.handle_parser_exception: "ff5cf13c764fb332",
    WebSocketsSansIOProtocol.send: "d4919ed760ce9f7b",
    WebSocketsSansIOProtocol.receive: "1dc0e715390021a1",
    Protocol.receive_data: "df57bef09335e176",
    Protocol.fail: "924ae7075dc75a9d",
    ServerProtocol.accept: "f2f96c48162dbfda",
    ServerProtocol.parse: "8c4d10340de4d32f",
}


def digest_of(function: Callable[..., Any]) -> str:
    return hashlib.sha256(inspect.getsource(function).encode()).hexdigest()[:16]


@pytest.mark.parametrize("function", DIGESTS, ids=lambda function: str(function.__qualname__))
def test_what_the_protocols_rely_on_is_as_it_was(function: Callable[..., Any]) -> None:
    assert digest_of(function) == DIGESTS[function]
