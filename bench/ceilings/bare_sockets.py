"""The ceiling of idle sockets: Starlette's under uvicorn, which take what comes and say nothing.

python -m bench.ceilings.bare_sockets <port>
"""

import sys

import uvicorn
from starlette.applications import Starlette
from starlette.routing import WebSocketRoute
from starlette.websockets import WebSocket


async def hold(websocket: WebSocket) -> None:
    await websocket.accept()
    while (await websocket.receive())["type"] != "websocket.disconnect":
        pass


def main(port: int) -> None:
    app = Starlette(routes=[WebSocketRoute("/ws", hold)])
    # As HIVE has them, so that its own share is all that differs.
    uvicorn.run(app, port=port, log_config=None, access_log=False, ws_per_message_deflate=False, ws_max_size=64 * 1024)


if __name__ == "__main__":
    main(int(sys.argv[1]))
