"""How a peer that is gone without a word is noticed."""

import socket

# Options of a TCP connection: an idle peer is asked for a sign of life every five seconds, and one that acknowledges
# nothing for 15 is given up.
TCP_PROBES = {
    socket.TCP_KEEPIDLE: 5,
    socket.TCP_KEEPINTVL: 5,
    socket.TCP_KEEPCNT: 3,
    socket.TCP_USER_TIMEOUT: 15_000,
}
