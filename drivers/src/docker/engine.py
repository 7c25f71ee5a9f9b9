"""Prefect's engine as the first process of a container, with somebody who tells it that it is cancelled.

Under a runner the engine hears over a connection on loopback what the next SIGTERM means (prefect 3.8.8); without one, a SIGTERM is a crash to it. Nobody
outside a container can connect, so a thread of the same process holds the other end: signal CANCEL has it say so, and send the SIGTERM. An engine that does not
listen yet has run nothing of the flow, and ends at once.
"""

import os
import runpy
import secrets
import signal
import socket
import threading

CANCEL = 39  # of the real-time signals, which nothing else here uses
PATIENCE = 5  # seconds, for what the engine answers in milliseconds


def main():
    # Threads inherit it: only the one that waits for the signal takes it.
    signal.pthread_sigmask(signal.SIG_BLOCK, {CANCEL})
    listener = socket.create_server(("127.0.0.1", 0))
    token = secrets.token_hex(16)
    os.environ["PREFECT__CONTROL_PORT"] = str(listener.getsockname()[1])
    os.environ["PREFECT__CONTROL_TOKEN"] = token
    engine = []
    for work in (accept, listener, token, engine), (cancel, engine):
        threading.Thread(target=work[0], args=work[1:], daemon=True).start()
    runpy.run_module("prefect.engine", run_name="__main__", alter_sys=True)


def accept(listener, token, engine):
    while not engine:
        connection, _ = listener.accept()
        connection.settimeout(PATIENCE)
        said = b""
        try:
            while not said.endswith(b"\n") and len(said) <= len(token):
                byte = connection.recv(1)
                if not byte:
                    break
                said += byte
        except OSError:
            pass
        if secrets.compare_digest(said.strip(), token.encode()):
            engine.append(connection)
        else:
            connection.close()
    listener.close()


def cancel(engine):
    signal.sigwait({CANCEL})
    if engine:
        try:
            engine[0].sendall(b"c")
            # It says `a`, and before that perhaps what else it could do.
            while not (said := engine[0].recv(64)).endswith(b"a") and said:
                pass
        except OSError:
            pass
    elif signal.getsignal(signal.SIGTERM) == signal.SIG_DFL:
        # The first process of a container does not hear a signal it has no handler for.
        os._exit(128 + signal.SIGTERM)
    os.kill(os.getpid(), signal.SIGTERM)


main()
