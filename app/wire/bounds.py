"""How much a connection may send, and how fast. docs/security.md has them all in a table."""

KIB = 1024

# Of a request, until its headers are complete.
MAX_HEAD_BYTES = 64 * KIB
MAX_HEADERS = 100
MAX_URL_BYTES = 16 * KIB
# From the first byte on, or from the beginning of the connection if nothing was asked for yet.
HEAD_SECONDS = 10.0
# Between two requests. Clients keep a connection for five seconds or so. If it were closed at the same time, they would
# lose a request now and then.
IDLE_SECONDS = 30.0

# A body has a reserve of time, which is used up while HIVE waits for it and refilled by what comes.
MIN_BODY_BYTES_PER_SECOND = 1 * KIB
BODY_RESERVE_SECONDS = 10.0
# What chunks may need besides the body that is in them: their sizes, extensions and trailers.
MAX_CHUNK_OVERHEAD_BYTES = 64 * KIB
# Of a body whose request is answered already, so that a client which sends it all first gets to read the answer.
MAX_DRAINED_BYTES = 1024 * KIB
DRAIN_SECONDS = 10.0

# Of all bodies that have begun and not ended, in one process.
MAX_UNFINISHED_BYTES = 32 * 1024 * KIB

# Of one connection. Past that it is read from again in the next second.
MAX_REQUESTS_PER_SECOND = 500

# An answer has a reserve of time in the same way, which is used up while the client takes less than this.
MIN_TAKEN_BYTES_PER_SECOND = 8 * KIB
TAKE_RESERVE_SECONDS = 30.0

# What is parsed without a pause. All else waits for its turn, and is parsed in such pieces.
DIRECT_BYTES = 4 * KIB
HEAD_PIECE_BYTES = 1 * KIB
BODY_PIECE_BYTES = 8 * KIB
FRAMES_PIECE_BYTES = 512
# What waits is worked off for so long in one turn of the event loop, of all connections together.
TURN_SECONDS = 0.002

# On a socket, after the handshake.
MAX_BYTES_BEFORE_SIGN_IN = 1 * KIB
FRAMES_PER_SECOND = 50.0
MAX_FRAMES_AT_ONCE = 250.0
FRAME_BYTES_PER_SECOND = 64.0 * KIB
MAX_FRAME_BYTES_AT_ONCE = 256.0 * KIB
MAX_FRAGMENTS = 256
# A socket that has sent more than it may for so long without a break is closed.
MAX_EXCESS_SECONDS = 30.0

# Descriptors that connections of clients never get: for Redis, listeners, logs and threads. The pool's come on top.
RESERVED_DESCRIPTORS = 100
